"""Pictures that captions and features belong to: names as files are called, and columns that hold something else."""

import logging
import os
import re
from collections import defaultdict
from dataclasses import replace
from typing import Optional, Sequence

from mlvl_fairseq.data.captions.cells import CAPTION_ID, OPTION, is_file_name, is_header_word, is_id, is_url, most
from mlvl_fairseq.data.captions.table import CaptionTable, shown, unique_texts
from mlvl_fairseq.data.image_names import ImageFolder
from mlvl_fairseq.errors import DataError

logger = logging.getLogger(__name__)

_COCO = re.compile(r"COCO_([a-z]+\d{4})_\d{12}\.\w+")
_SENTENCE = re.compile(r"\S\s+\S|[.!?]$|[。！？，、；]")
_PICTURE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")


def refuse_misplaced(table: CaptionTable, has_columns: bool) -> None:
    """Look at the whole columns: ids where captions belong, sentences where image names belong.

    Args:
        has_columns: the file has columns or fields that an option can name.

    Raises:
        DataError: most of a column is something else.
    """
    first = table.images[0]
    if is_header_word(first) and len(table.images) > 2 and most(table.images[1:], is_file_name):
        why = f"the first image is called {shown(first)}, the others as files: a header? delete that line"
        raise DataError(why, table.path, int(table.lines[0]))
    say = f"say what is where: {OPTION} image=2,caption=1 (or names of fields)" if has_columns else "give other files"
    if most(table.captions, is_id):
        first = next(filter(is_id, table.captions))
        raise DataError(f"most of its captions are ids or numbers, as {shown(first)}, no captions; {say}", table.path)
    if most(table.images, _is_sentence):
        first = next(filter(_is_sentence, table.images))
        raise DataError(f"most of its image names are sentences, as {shown(first)}, no names; {say}", table.path)


def _is_sentence(name: str) -> bool:
    return _SENTENCE.search(name) is not None and not is_file_name(name) and not is_url(name)


def with_file_names(table: CaptionTable, folder: Optional[ImageFolder]) -> CaptionTable:
    """Call images as their files are called (:func:`file_names`), and those that then have one name, one image."""
    if folder and most(table.images, is_url):
        first = next(filter(is_url, table.images))
        message = (
            f"its images are URLs, as {shown(first)}, no files under '{folder.root}'; name the files that you have, "
        )
        raise DataError(message + "or give features with these URLs as names", table.path)
    names = file_names(table.images, folder, table.path)
    if names == table.images:
        return table
    images, rows = unique_texts(names)
    return replace(table, images=images, image_rows=rows[table.image_rows])


def file_names(images: Sequence[str], folder: Optional[ImageFolder], path) -> list[str]:
    """The names of files that a file of captions, or a list of features, means by its images.

    ``#number`` behind a name is the id of a caption, not a part of the name, unless there is a file of that very name
    in ``folder``, if it is known. What is not there, but is in the folder that its data set has for it
    (``COCO_val2014_...`` in ``val2014``), or is there with an ending (XM3600's keys), gets this name. Each is
    told with its number.

    Args:
        images: names as :func:`~mlvl_fairseq.data.image_names.image_name` has them. path: where they stand.
    """
    names = list(images)
    ids = [row for row, name in enumerate(names) if "#" in name and CAPTION_ID.search(name) and is_file_name(name)]
    if ids and folder:
        ids = [ids[row] for row in folder.missing([names[row] for row in ids])]
    for row in ids:
        names[row] = CAPTION_ID.sub("", names[row])
    _tell(path, "the number behind # is a caption's id, no part of the image's name", ids, images, names)
    if folder:
        _find_in_folders(names, folder, path)
    return names


def _find_in_folders(names: list[str], folder: ImageFolder, path) -> None:
    """Replace the names that are not there by those of their files, if these are there."""
    for why, find in (
        ("found in the folder that its data set has for it", _in_published_folder),
        ("found with the ending of its file", _with_ending),
    ):
        before = list(names)
        rows = [row for row, name in enumerate(names) if not is_url(name)]
        rows = [rows[row] for row in folder.missing([names[row] for row in rows])]
        found = {row: name for row, name in zip(rows, find([names[row] for row in rows], folder)) if name}
        for row, name in found.items():
            names[row] = name
        _tell(path, why, list(found), before, names)


def _in_published_folder(names: Sequence[str], images: ImageFolder) -> list[Optional[str]]:
    """The first of the folders that COCO and Flickr30k have below a root, and IGLUE below its ``images``."""
    found: list[Optional[str]] = [None] * len(names)
    for folders in zip(*map(_published_folders, names)):
        places = [f"{folder}/{name}" for folder, name in zip(folders, names)]
        there = set(range(len(names))) - set(images.missing(places).tolist())
        found = [places[row] if name is None and row in there else name for row, name in enumerate(found)]
    return found


def _published_folders(name: str) -> tuple[str, ...]:
    coco = _COCO.fullmatch(name)
    if coco:
        return coco[1], f"coco/{coco[1]}", f"coco/images/{coco[1]}"
    return ("flickr30k-images",) * 3


def _with_ending(names: Sequence[str], images: ImageFolder) -> list[Optional[str]]:
    """The only picture file whose name is the given one and an ending."""
    endings: dict[str, dict[str, list[str]]] = {}
    found: list[Optional[str]] = []
    for name in names:
        folder, stem = os.path.split(name)
        if folder not in endings:
            endings[folder] = defaultdict(list)
            for file in images.files(folder):
                base, ending = os.path.splitext(file)
                if ending.lower() in _PICTURE_ENDINGS:
                    endings[folder][base].append(ending)
        fitting = endings[folder].get(stem, [])
        found.append(name + fitting[0] if len(fitting) == 1 else None)
    return found


def _tell(path, why: str, rows: Sequence[int], before: Sequence[str], names: Sequence[str]) -> None:
    if rows:
        first = f"'{before[rows[0]]}' is '{names[rows[0]]}'"
        logger.info("%s: %s image names: %s (%s)", path, f"{len(rows):,}", why, first)
