"""MS-COCO's annotation files, ``captions_val2014.json`` and the like (STAIR's Japanese ones, too)."""

import json
import re
from typing import Any, Hashable, Iterator, Optional

from mlvl_fairseq.data.captions.reading import CaptionReader, CaptionSource, raw_lines, register_reader, text_lines
from mlvl_fairseq.data.captions.table import MISSING_FIELD, NO_CAPTION, TableBuilder
from mlvl_fairseq.errors import DataError

_HEAD = re.compile(r'\s*\{\s*"(info|images|licenses|annotations|type)"\s*:')
_NUMBER = re.compile(r"(\d+)$")


def looks_like_coco(head: str) -> bool:
    """Does a file begin as such a file does?"""
    return bool(_HEAD.match(head))


@register_reader("coco")
class CocoReader(CaptionReader):
    """``images`` (``id``, ``file_name``) and ``annotations`` (``image_id``, ``caption``).

    Images come in the order of the file. An image list says which ones there are, in which order, and under which
    names: ``path`` or ``path id`` in each line, as in Karpathy's splits; without an id it is the number that the file
    name ends in.
    """

    companions = frozenset({"image_list"})
    unit = "row"

    def sniff(self, head: str) -> bool:
        return looks_like_coco(head)

    def read(self, source: CaptionSource, rows: TableBuilder) -> None:
        content = _load(source.path)
        captions = _captions_by_image(content["annotations"], rows)
        listed = _file_images(content["images"], rows) if source.image_list is None else _listed(source.image_list)
        for line, image_id, name in listed:
            if image_id not in captions:
                rows.note(NO_CAPTION, f"'{name}' has no caption", line, "image")
            for number, caption in captions.get(image_id, ()):
                rows.add(number, name, caption)


def _load(path) -> dict:
    text = "".join(raw_lines(path))
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"not valid JSON: {error}", path) from None
    for field in ("images", "annotations"):
        if not isinstance(content, dict) or not isinstance(content.get(field), list):
            raise DataError("is missing or no list; give a file of MS-COCO's captions", path, field=field)
    return content


def _captions_by_image(annotations: list, rows: TableBuilder) -> dict[Hashable, list[tuple[int, str]]]:
    """Image id -> its captions with their rows."""
    captions: dict[Hashable, list[tuple[int, str]]] = {}
    for number, entry in enumerate(annotations, 1):
        image_id, caption = _fields(entry, ("image_id", "caption"))
        if isinstance(image_id, (int, str)) and isinstance(caption, str):
            captions.setdefault(_as_id(image_id), []).append((number, caption))
        else:
            rows.skip(MISSING_FIELD, "annotation without image_id or caption", number, "annotations")
    return captions


def _file_images(images: list, rows: TableBuilder) -> Iterator[tuple[int, Hashable, str]]:
    """Row, id and name of every image of the file."""
    for number, entry in enumerate(images, 1):
        image_id, name = _fields(entry, ("id", "file_name"))
        if isinstance(image_id, (int, str)) and isinstance(name, str):
            yield number, _as_id(image_id), name
        else:
            rows.note(MISSING_FIELD, "image without id or file_name", number, "images")


def _listed(path) -> Iterator[tuple[int, Hashable, str]]:
    """Line, id and name of every listed image."""
    for number, line in enumerate(text_lines(path), 1):
        name, _, last = line.strip().rpartition(" ")
        if not name or not last.isdigit():
            name, last = line.strip(), _number_in(line.strip())
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


def _as_id(value: Hashable) -> Hashable:
    """Some files write numbers as strings."""
    return int(value) if isinstance(value, str) and value.isdigit() else value
