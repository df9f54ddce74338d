"""Features as ``.npy`` files of plain numbers, above all those that users bring with a text file naming their rows."""

from typing import Dict, Optional, Sequence

import numpy as np

from mlvl_fairseq.arrays import map_array
from mlvl_fairseq.data.captions.reading import text_lines
from mlvl_fairseq.data.image_names import image_name
from mlvl_fairseq.errors import DataError

FEATURE_DTYPES = ("float16", "float32")


def import_features(npy_path, list_path, names: Sequence[str], image_root: Optional[str] = None) -> np.ndarray:
    """The rows of a feature array in the order of `names`.

    Args:
        npy_path: float16 or float32 array ``[n, d]``.
        list_path: UTF-8 text file with the name of each row, one a line.
        names: image names wanted, in any spelling; the array may hold more.
        image_root: folder that they start from, if it is known.

    Returns:
        ``[len(names), d]``; the array itself, mapped into memory, where the order is the same already.

    Raises:
        DataError: a file is missing or damaged, the two have different numbers of rows, a row's name is empty or
            occurs twice, a wanted name is missing, or a feature is not finite.
    """
    features = map_array(npy_path, FEATURE_DTYPES, ("n", "d"), "convert it first")
    row_of = read_row_names(list_path, image_root)
    if len(row_of) != len(features):
        raise DataError(f"names {len(row_of)} rows, but {npy_path} has {len(features)}", list_path)
    names = [image_name(name, image_root) for name in names]
    missing = [name for name in names if name not in row_of]
    if missing:
        examples = ", ".join(repr(name) for name in missing[:3])
        raise DataError(f"lacks {len(missing)} of {len(names)} image names, such as {examples}", list_path)
    rows = np.array([row_of[name] for name in names], dtype=np.int64)
    wanted_rows = features if np.array_equal(rows, np.arange(len(features))) else features[rows]
    if wanted_rows.size and not np.isfinite([wanted_rows.min(), wanted_rows.max()]).all():
        raise DataError("holds features that are not finite (NaN or infinity); compute them again", npy_path)
    return wanted_rows


def read_row_names(path, image_root: Optional[str] = None) -> Dict[str, int]:
    """The row of every :func:`image_name` of a list.

    Raises:
        DataError: the file is missing or not UTF-8, a line is empty, or two name one image.
    """
    row_of: Dict[str, int] = {}
    for line, spelling in enumerate(text_lines(path), 1):
        name = image_name(spelling, image_root)
        if not name:
            raise DataError("is empty where a row's name is expected", path, line)
        if any("\ud800" <= character <= "\udfff" for character in name):
            raise DataError("is not UTF-8; convert the list first", path, line)
        if name in row_of:
            raise DataError(f"name {name!r} is already in line {row_of[name] + 1}", path, line)
        row_of[name] = line - 1
    return row_of
