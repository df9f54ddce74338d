"""Winoground's ``annotations.jsonl`` (Thrush et al. 2022): two pictures and two captions of the same words a line."""

from functools import partial
from typing import Any

from mlvl_fairseq.data.captions.cells import is_file_name
from mlvl_fairseq.data.captions.json_rows import iter_lines, object_lines, outline, type_name
from mlvl_fairseq.data.captions.reading import CaptionReader, CaptionSource, register_reader
from mlvl_fairseq.data.captions.table import MISSING_FIELD, WRONG_TYPE, TableBuilder

_FIELDS = ("image_0", "caption_0", "image_1", "caption_1")


@register_reader("winoground")
class WinogroundReader(CaptionReader):
    """``{"image_0": "ex_0_img_0", "caption_0": ..., "image_1": ..., "caption_1": ...}``: each picture with its caption,
    in this order. Pictures without an ending are PNG files. Of a line that lacks anything nothing is read."""

    def sniff(self, head: str) -> bool:
        objects = object_lines(head)
        return any(set(_FIELDS) <= value.keys() for value in objects) if objects else set(_FIELDS) <= outline(head)

    def read(self, source: CaptionSource, rows: TableBuilder) -> None:
        for number, value in iter_lines(source.path, partial(rows.skip, captions=2)):
            if _is_complete(value, number, rows):
                for image, caption in (_FIELDS[:2], _FIELDS[2:]):
                    name = value[image]
                    rows.add(number, name if is_file_name(name) else f"{name}.png", value[caption])


def _is_complete(value: Any, number: int, rows: TableBuilder) -> bool:
    if not isinstance(value, dict):
        rows.skip(WRONG_TYPE, f"expected an object, found {type_name(value)}", number, None, 2)
        return False
    for field in _FIELDS:
        if not isinstance(value.get(field), str):
            found = "is missing" if field not in value else f"expected a string, found {type_name(value[field])}"
            rows.skip(MISSING_FIELD if field not in value else WRONG_TYPE, found, number, field, 2)
            return False
    return True
