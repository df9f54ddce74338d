"""Which captions of a table stay, and several tables as one: checks that need a whole file, or all of them."""

import logging
from typing import Sequence

import numpy as np

from mlvl_fairseq.data.captions.table import DUPLICATE, MISSING_IMAGE, CaptionTable, unique_texts
from mlvl_fairseq.data.image_names import ImageFolder
from mlvl_fairseq.errors import DataError

logger = logging.getLogger(__name__)

KEPT = ("all", "first", "last")


def without_missing_images(table: CaptionTable, folder: ImageFolder) -> CaptionTable:
    """Leave out the captions of images that are not files under an image root; each missing image is counted.

    Raises:
        DataError: by the table's policy for problems, or when no caption is left.
    """
    return without_images(table, folder.missing(table.images), MISSING_IMAGE, f"under '{folder.root}'")


def without_images(table: CaptionTable, missing: np.ndarray, kind: str, where: str) -> CaptionTable:
    """Leave out the captions of images that are not where they are needed; each missing image is counted.

    Args:
        missing: their rows. kind: of problem. where: they are not, in words.

    Raises:
        DataError: by the table's policy for problems, or when no caption is left.
    """
    if not len(missing):
        return table
    _, first = np.unique(table.image_rows, return_index=True)
    captions = np.bincount(table.image_rows, minlength=len(table.images))
    for row in missing:
        why = f"'{table.images[row]}' is not {where}; its {captions[row]} captions cannot be used"
        table.problems.skip(kind, why, table.path, int(table.lines[first[row]]), "image", captions=int(captions[row]))
    if len(missing) == len(table.images):
        raise DataError(f"none of its {len(missing):,} images is {where}; check the names and the root", table.path)
    return table.select(np.flatnonzero(~np.isin(table.image_rows, missing)))


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
        table.problems.note(DUPLICATE, why, table.path, int(table.lines[row]), "caption", left_out=1 if drop else 0)
    if not drop or not len(repeated):
        return table
    return table.select(np.flatnonzero(first == np.arange(len(table))))


def one_caption_an_image(table: CaptionTable, kept: str) -> CaptionTable:
    """Each image with its first or its last caption only; images keep their order. How many captions go is told.

    Args:
        kept: a name of :data:`KEPT`.
    """
    if kept == "all":
        return table
    rows = np.arange(len(table)) if kept == "first" else np.arange(len(table))[::-1]
    _, first = np.unique(table.image_rows[rows], return_index=True)
    if len(first) < len(table):
        logger.info(
            "%s: of each image the %s caption; %d others are left out", table.path, kept, len(table) - len(first)
        )
    return table.select(rows[first])


def _first_rows(table: CaptionTable) -> np.ndarray:
    """int64 ``[n]``: for each caption the first row that equals it in image, caption and English sentence."""
    keys = table.image_rows.astype(np.int64)
    for column in (table.captions, table.english):
        if column is not None:
            texts, numbers = unique_texts(column)
            keys = np.unique(keys, return_inverse=True)[1] * len(texts) + numbers
    _, first, groups = np.unique(keys, return_index=True, return_inverse=True)
    return first[groups]


def joined(tables: Sequence[CaptionTable]) -> CaptionTable:
    """The captions of several files, one file after the other; an image that several have is one image.

    Raises:
        DataError: some have English sentences, and some have none.
    """
    first = tables[0]
    if len(tables) == 1:
        return first
    for table in tables:
        if (table.english is None) != (first.english is None):
            with_english, without = (table, first) if first.english is None else (first, table)
            raise DataError(
                f"has no English sentences, but {with_english.path} has: give files of one kind", without.path
            )
    images, rows = unique_texts(name for table in tables for name in table.images)
    starts = np.cumsum([0, *(len(table.images) for table in tables)])
    for table in tables[1:]:
        first.problems.add(table.problems)
    return CaptionTable(
        path=" + ".join(table.path for table in tables),
        images=images,
        image_rows=np.concatenate([rows[start:][table.image_rows] for start, table in zip(starts, tables)]),
        captions=[caption for table in tables for caption in table.captions],
        english=None if first.english is None else [text for table in tables for text in table.english],
        lines=np.concatenate([table.lines for table in tables]),
        unit=first.unit,
        problems=first.problems,
    )
