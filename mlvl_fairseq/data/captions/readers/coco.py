"""MS-COCO's annotation files, ``captions_val2014.json`` and the like (STAIR's Japanese ones, too)."""

import re
from typing import Any, Hashable, Iterator, Optional

from mlvl_fairseq.data.captions.cells import CAPTION_ID
from mlvl_fairseq.data.captions.json_rows import load_object, object_lines, outline
from mlvl_fairseq.data.captions.lines import text_lines
from mlvl_fairseq.data.captions.readers.karpathy import looks_like_karpathy
from mlvl_fairseq.data.captions.reading import CaptionReader, CaptionSource, register_reader
from mlvl_fairseq.data.captions.table import (
    IMAGE_ID_CONFLICT,
    MISSING_FIELD,
    NO_CAPTION,
    NO_IMAGE,
    REPEATED_ID,
    TableBuilder,
)
from mlvl_fairseq.errors import DataError

_NUMBER = re.compile(r"(\d+)$")
_Images = dict[Hashable, tuple[int, str]]  # id -> row or line, name
_Captions = dict[Hashable, list[tuple[int, str]]]  # id of the image -> rows, captions


@register_reader("coco")
class CocoReader(CaptionReader):
    """``images`` (``id``, ``file_name``) and ``annotations`` (``image_id``, ``caption``).

    Images come in the order of the file. An image list says which ones there are, in which order, and under which
    names: ``path`` or ``path id`` in each line, as in Karpathy's splits; without an id it is the number that the file
    name ends in. What only one of the two lists has is counted, and so are ids of two images.
    """

    companions = frozenset({"image_list"})
    unit = "row"

    def sniff(self, head: str) -> bool:
        keys = outline(head)
        lists = {"info", "images", "licenses", "annotations"} & keys
        return bool(lists) and "[]" not in keys and len(object_lines(head)) < 2 and not looks_like_karpathy(head)

    def read(self, source: CaptionSource, rows: TableBuilder) -> None:
        content = load_object(source.path, ("images", "annotations"), "MS-COCO's captions")
        captions = _captions_by_image(content["annotations"], rows)
        if source.image_list is None:
            images = _file_images(content["images"], captions, rows)
            for image_id in (image_id for image_id in captions if image_id not in images):
                for number, _ in captions[image_id]:
                    why = f"image_id {image_id!r} is of no image in 'images'"
                    rows.skip(NO_IMAGE, why, number, "annotations")
        else:
            images = _listed_images(source.image_list, rows)
        for image_id, (line, name) in images.items():
            if image_id not in captions:
                rows.skip(NO_CAPTION, f"'{name}' has no caption", line, "image", captions=0)
            for number, caption in captions.get(image_id, ()):
                rows.add(number, name, caption)


def _captions_by_image(annotations: list, rows: TableBuilder) -> _Captions:
    """Image id -> its captions with their rows, in the order of the file."""
    captions: _Captions = {}
    seen: dict[Hashable, int] = {}
    for number, entry in enumerate(annotations, 1):
        image_id, caption, own_id = _fields(entry, ("image_id", "caption", "id"))
        if not _is_id(image_id) or not isinstance(caption, str):
            rows.skip(MISSING_FIELD, "annotation without image_id or caption", number, "annotations")
            continue
        captions.setdefault(_as_id(image_id), []).append((number, caption))
        if _is_id(own_id) and seen.setdefault(_as_id(own_id), number) != number:
            why = f"annotation id {own_id!r} is that of row {seen[_as_id(own_id)]}, too; both are kept"
            rows.note(REPEATED_ID, why, number, "annotations")
    return captions


def _file_images(images: list, captions: _Captions, rows: TableBuilder) -> _Images:
    """The images of the file by id. Which of two names is that of an id, nobody knows: its captions are taken out."""
    found: _Images = {}
    conflicts: set[Hashable] = set()
    for number, entry in enumerate(images, 1):
        image_id, name = _fields(entry, ("id", "file_name"))
        if not _is_id(image_id) or not isinstance(name, str):
            rows.skip(MISSING_FIELD, "image without id or file_name", number, "images", captions=0)
            continue
        row, known = found.setdefault(_as_id(image_id), (number, name))
        if known != name:
            why = f"image id {image_id!r} is that of {known!r} (row {row}) and of {name!r}; its captions are left out"
            rows.skip(IMAGE_ID_CONFLICT, why, number, "images", len(captions.pop(_as_id(image_id), ())))
            conflicts.add(_as_id(image_id))
        elif row != number:
            why = f"image id {image_id!r} is that of row {row}, too, with the same name"
            rows.note(REPEATED_ID, why, number, "images")
    return {image_id: image for image_id, image in found.items() if image_id not in conflicts}


def _listed_images(path, rows: TableBuilder) -> _Images:
    """The images of a list by id."""
    found: _Images = {}
    for line, image_id, name in _listed(path):
        first, known = found.setdefault(image_id, (line, name))
        if first != line:
            why = f"image {image_id} is listed as {known!r} in line {first} already; that one counts"
            rows.skip(IMAGE_ID_CONFLICT if known != name else REPEATED_ID, why, line, "image", captions=0)
    return found


def _listed(path) -> Iterator[tuple[int, Hashable, str]]:
    """Line, id and name of every listed image."""
    for number, line in enumerate(text_lines(path), 1):
        if not line.strip():
            continue
        name, _, last = line.strip().rpartition(" ")
        if not name or not last.isdigit():
            name = CAPTION_ID.sub("", line.strip())
            last = _number_in(name)
        if last is None:
            raise DataError(f"no number in '{name}' that says which image it is; write 'path id'", path, number)
        yield number, int(last), name.strip()


def _number_in(name: str) -> Optional[str]:
    """``val2014/COCO_val2014_000000000042.jpg`` -> ``000000000042``."""
    stem = name.rpartition("/")[2].rpartition(".")[0] or name
    found = _NUMBER.search(stem)
    return found and found[1]


def _fields(entry: Any, names: tuple[str, ...]) -> tuple:
    return tuple(entry.get(name) for name in names) if isinstance(entry, dict) else (None,) * len(names)


def _is_id(value: Any) -> bool:
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def _as_id(value: Hashable) -> Hashable:
    """Some files write numbers as strings."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20 else value
