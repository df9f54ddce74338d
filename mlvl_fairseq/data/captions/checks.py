"""Checks that need the whole table: images that are not there, captions that are there twice."""

import os
from collections import defaultdict
from typing import Sequence

import numpy as np

from mlvl_fairseq.data.captions import problems as kinds
from mlvl_fairseq.data.captions.table import CaptionTable, unique_texts
from mlvl_fairseq.errors import DataError, UserError


def without_missing_images(table: CaptionTable, image_root: str) -> CaptionTable:
    """Leave out the captions of images that are not files under ``image_root``; each missing image is counted.

    Raises:
        UserError: ``image_root`` is not a folder.
        DataError: by the table's policy for problems, or when no caption is left.
    """
    if not os.path.isdir(image_root):
        raise UserError(f"image root '{image_root}' is not a folder")
    missing = missing_images(table.images, image_root)
    if not len(missing):
        return table
    _, first = np.unique(table.image_rows, return_index=True)
    captions = np.bincount(table.image_rows, minlength=len(table.images))
    for row in missing:
        why = f"'{table.images[row]}' is not under '{image_root}'; its {captions[row]} captions cannot be used"
        table.problems.skip(
            kinds.MISSING_IMAGE, why, table.path, int(table.lines[first[row]]), "image", captions=int(captions[row])
        )
    if len(missing) == len(table.images):
        raise DataError(f"none of its {len(missing):,} images is under '{image_root}'; check the root", table.path)
    return table.select(np.flatnonzero(~np.isin(table.image_rows, missing)))


def missing_images(images: Sequence[str], image_root: str) -> np.ndarray:
    """Rows (int64, ascending) of the images that are not files. Each folder is listed once: far fewer system calls
    than one look-up an image, above all on network disks. Absolute names are taken as they are."""
    rows_by_folder: dict[str, list[int]] = defaultdict(list)
    names = []
    for row, image in enumerate(images):
        folder, name = os.path.split(os.path.join(image_root, image))
        rows_by_folder[folder].append(row)
        names.append(name)
    missing: list[int] = []
    for folder, rows in rows_by_folder.items():
        present = _file_names(folder)
        missing += [row for row in rows if names[row] not in present]
    return np.array(sorted(missing), np.int64)


def _file_names(folder: str) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_file()}
    except (FileNotFoundError, NotADirectoryError):
        return set()


def count_duplicates(table: CaptionTable, drop: bool) -> CaptionTable:
    """Count captions that their image already has (with the same English sentence, where there is one).

    Args:
        drop: leave the repetitions out. By default they stay: Yang et al. (2024) train on all rows.
    """
    first = _first_rows(table)
    repeated = np.flatnonzero(first != np.arange(len(table)))
    for row in repeated:
        image = table.images[table.image_rows[row]]
        why = f"'{image}' already has this caption ({table.unit} {table.lines[first[row]]})"
        table.problems.note(
            kinds.DUPLICATE, why, table.path, int(table.lines[row]), "caption", left_out=1 if drop else 0
        )
    if not drop or not len(repeated):
        return table
    return table.select(np.flatnonzero(first == np.arange(len(table))))


def _first_rows(table: CaptionTable) -> np.ndarray:
    """int64 ``[n]``: for each caption the first row that equals it in image, caption and English sentence."""
    keys = table.image_rows.astype(np.int64)
    for column in (table.captions, table.english):
        if column is not None:
            texts, numbers = unique_texts(column)
            keys = np.unique(keys, return_inverse=True)[1] * len(texts) + numbers
    _, first, groups = np.unique(keys, return_index=True, return_inverse=True)
    return first[groups]
