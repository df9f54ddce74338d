"""Features as ``.npy`` files of plain numbers, above all those that users bring with a text file naming their rows."""

from collections import Counter
from typing import Dict, Optional, Sequence, Tuple

import numpy as np

from mlvl_fairseq.arrays import map_array
from mlvl_fairseq.data.captions.lines import text_lines
from mlvl_fairseq.data.captions.pictures import file_names
from mlvl_fairseq.data.image_names import ImageFolder, image_name
from mlvl_fairseq.data.images.policy import BadImagePolicy
from mlvl_fairseq.errors import DataError

FEATURE_DTYPES = ("float16", "float32")
SMALLEST = 1e-12  # below it torch.nn.functional.normalize does not make a feature one of length 1
CHUNK = 4096  # rows looked at together


def unusable_rows(features: np.ndarray) -> np.ndarray:
    """bool [n]: features [n, d] that say nothing: not finite, zero, or the same number in all of several dimensions."""
    marks = np.empty(len(features), bool)
    for start in range(0, len(features), CHUNK):
        rows = np.asarray(features[start : start + CHUNK], np.float32)
        constant = (rows == rows[:, :1]).all(axis=1) if rows.shape[1] > 1 else np.zeros(len(rows), bool)
        zero = np.abs(rows).max(axis=1, initial=0) < SMALLEST
        marks[start : start + CHUNK] = constant | zero | ~np.isfinite(rows).all(axis=1)
    return marks


def import_features(
    npy_path,
    list_path,
    names: Sequence[str],
    policy: BadImagePolicy = BadImagePolicy(),
    image_root: Optional[str] = None,
) -> Tuple[np.ndarray, np.ndarray]:
    """The rows of a feature array in the order of `names`, and which of them stand for nothing.

    Args:
        npy_path: float16 or float32 array ``[n, d]``.
        list_path: UTF-8 text file with the name of each row, one a line.
        names: image names wanted, in any spelling; the array may hold more.
        policy: what to do about features that say nothing (:func:`unusable_rows`).
        image_root: folder that names start from, if it is known.

    Returns:
        ``[len(names), d]``; the array itself, mapped into memory, where the order is the same already and all rows are
        usable; else unusable rows are zeros. Their numbers, ascending.

    Raises:
        DataError: a file is missing or damaged, the two have different numbers of rows, a row's name is empty or
            occurs twice, a wanted name is missing, or a feature is unusable and `policy` does not allow it.
    """
    features = map_array(npy_path, FEATURE_DTYPES, ("n", "d"), "convert it first")
    row_of = read_row_names(list_path, image_root)
    names = [image_name(name, image_root) for name in names]
    rows = rows_of_names(names, row_of, list_path, len(features), npy_path)
    wanted_rows = features if np.array_equal(rows, np.arange(len(features))) else features[rows]
    bad = np.flatnonzero(unusable_rows(wanted_rows))
    policy.accept_all([f"{npy_path}: the feature of {names[row]!r} {what_is_wrong(wanted_rows[row])}" for row in bad])
    if len(bad):
        wanted_rows = np.array(wanted_rows)
        wanted_rows[bad] = 0
    return wanted_rows, bad


def map_grids(npy_path) -> np.ndarray:
    """States of images that a frozen network gave, float16 or float32 [images, positions, dimensions].

    Raises:
        DataError: the file is missing or damaged, or holds something else.
    """
    advice = "give one grid [images, positions, dimensions] of pictures of one size"
    return map_array(npy_path, FEATURE_DTYPES, ("n", "positions", "dims"), advice)


def is_grid(npy_path) -> bool:
    """Whether an array has several states of an image. Raises DataError: it is missing or damaged."""
    return map_array(npy_path, FEATURE_DTYPES).ndim == 3


def rows_of_names(names: Sequence[str], row_of: Dict[str, int], list_path, there: int, npy_path) -> np.ndarray:
    """int64: the row of each name. Raises DataError: the list has not as many rows as the array, or lacks one."""
    rows_named = len(set(row_of.values()))
    if rows_named != there:
        raise DataError(f"names {rows_named} rows, but {npy_path} has {there}", list_path)
    missing = [name for name in names if name not in row_of]
    if missing:
        examples = ", ".join(repr(name) for name in missing[:3])
        raise DataError(f"lacks {len(missing)} of {len(names)} image names, such as {examples}", list_path)
    return np.array([row_of[name] for name in names], dtype=np.int64)


def what_is_wrong(feature: np.ndarray) -> str:
    if not np.isfinite(feature).all():
        return "is not finite (NaN or infinity)"
    return "is the same number in every dimension" if float(np.abs(feature).max()) >= SMALLEST else "is zero"


def read_row_names(path, image_root: Optional[str] = None) -> Dict[str, int]:
    """The row of every :func:`image_name` of a list, and of the name that captions have for it (:func:`file_names`)
    where that is the name of one row.

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
    folder = None if image_root is None else ImageFolder(image_root, allow_outside=True)  # nothing is opened here
    called = file_names(list(row_of), folder, path)
    once = {name for name, count in Counter(called).items() if count == 1}
    return {**{name: row for row, name in enumerate(called) if name in once}, **row_of}
