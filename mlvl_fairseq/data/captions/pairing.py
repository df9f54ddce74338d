"""Which English caption stands beside each caption of another language.

The cross-lingual objective (Yang et al. 2024) pulls a target caption towards the teacher's feature of an English one.
Triplet files name the English sentence; caption files of one language are paired through their images.
"""

from typing import Optional

import numpy as np

from mlvl_fairseq.data.captions.table import UNKNOWN_ENGLISH, UNPAIRED, CaptionTable, Problems, unique_texts
from mlvl_fairseq.data.image_names import is_outside


def english_rows(
    target: CaptionTable, english: CaptionTable, problems: Optional[Problems] = None, drop: bool = False
) -> np.ndarray:
    """Find the English caption of every target caption.

    With ``target.english``: the same sentence as a caption of the same image, else of any image. Without: the k-th
    caption of an image gets the image's k-th English caption, starting over when there are fewer of them.

    Args:
        target: n captions.
        english: captions in English; images are matched by name.
        problems: where captions without an English row are counted; by default ``target.problems``.
        drop: whether the caller leaves these captions out.

    Returns:
        int32 ``[n]``: rows of ``english.captions``, -1 where there is none.

    Raises:
        DataError: by the policy for problems.
    """
    image_rows = _image_rows_in(target, english)
    rows = _rows_by_order(image_rows, english) if target.english is None else _rows_by_text(target, image_rows, english)
    problems = target.problems if problems is None else problems
    for row in np.flatnonzero(rows < 0):
        if target.english is None:
            kind, field, why = UNPAIRED, "image", _without_english(target.images[target.image_rows[row]])
        else:
            kind, field, why = UNKNOWN_ENGLISH, "english", f"'{target.english[row]}' is not among the English captions"
        problems.skip(kind, why, target.path, int(target.lines[row]), field, kept=not drop)
    return rows


def _without_english(image: str) -> str:
    hint = " (an absolute name; with --image-root, names are compared from there)" if is_outside(image) else ""
    return f"no English caption of '{image}'{hint}"


def unmatched_english(target: CaptionTable, rows: np.ndarray) -> tuple[list[str], np.ndarray]:
    """The English sentences of ``target`` for which :func:`english_rows` found no row, to be added to the English list.

    Args:
        rows: int32 ``[n]``, what :func:`english_rows` returned.

    Returns:
        the m distinct sentences in order of first appearance, and int32 ``[n]``: each target caption's row among
        them, -1 for captions that have a row already (or no English sentence).
    """
    extra = np.full(len(target), -1, np.int32)
    open_rows = np.flatnonzero(rows < 0) if target.english is not None else np.empty(0, np.int64)
    sentences, numbers = unique_texts(target.english[row] for row in open_rows)
    extra[open_rows] = numbers
    return sentences, extra


def _image_rows_in(target: CaptionTable, english: CaptionTable) -> np.ndarray:
    """int64 ``[n]``: row in ``english.images`` of each target caption's image, -1 where it is not there."""
    row_of = {name: row for row, name in enumerate(english.images)}
    rows = np.array([row_of.get(name, -1) for name in target.images], np.int64)
    return rows[target.image_rows]


def _rows_by_order(image_rows: np.ndarray, english: CaptionTable) -> np.ndarray:
    """k-th target caption of an image -> k-th English caption of it, modulo their number. int32 ``[n]``."""
    rows = np.full(len(image_rows), -1, np.int32)
    known = np.flatnonzero(image_rows >= 0)
    images = image_rows[known]
    by_image = np.argsort(english.image_rows, kind="stable")
    counts = np.bincount(english.image_rows, minlength=len(english.images))
    starts = np.cumsum(counts) - counts
    rows[known] = by_image[starts[images] + _ordinals(images) % counts[images]]
    return rows


def _ordinals(groups: np.ndarray) -> np.ndarray:
    """How many equal values stand before each value: ``[3, 5, 3, 3] -> [0, 0, 1, 2]``."""
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    is_start = np.r_[True, ordered[1:] != ordered[:-1]][: len(groups)]
    position = np.arange(len(groups))
    ordinals = np.empty(len(groups), np.int64)
    ordinals[order] = position - np.maximum.accumulate(np.where(is_start, position, 0))
    return ordinals


def _rows_by_text(target: CaptionTable, image_rows: np.ndarray, english: CaptionTable) -> np.ndarray:
    """First English row with the target caption's sentence and image, else with the sentence alone. int32 ``[n]``."""
    texts, numbers = unique_texts(english.captions)
    number_of = {text: number for number, text in enumerate(texts)}
    wanted = np.array([number_of.get(sentence, -1) for sentence in target.english], np.int64)
    anywhere = np.r_[np.unique(numbers, return_index=True)[1], -1]  # entry -1: the sentence is unknown
    keys, first = np.unique(english.image_rows.astype(np.int64) * len(texts) + numbers, return_index=True)
    wanted_keys = np.where((image_rows >= 0) & (wanted >= 0), image_rows * len(texts) + wanted, -1)
    place = np.minimum(np.searchsorted(keys, wanted_keys), len(keys) - 1)
    return np.where(keys[place] == wanted_keys, first[place], anywhere[wanted]).astype(np.int32)
