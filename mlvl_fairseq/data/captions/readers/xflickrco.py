"""xFlickr&CO's JSON lines (Bugliarello et al. 2022): captions of 1000 pictures each of Flickr30k and of COCO."""

from typing import Any

from mlvl_fairseq.data.captions.json_rows import iter_lines, object_lines, outline, type_name
from mlvl_fairseq.data.captions.reading import CaptionReader, CaptionSource, register_reader
from mlvl_fairseq.data.captions.table import MISSING_FIELD, NO_CAPTION, WRONG_TYPE, TableBuilder

_IMAGE, _CAPTIONS = "img_path", "sentences"


def looks_like_xflickrco(head: str) -> bool:
    objects = object_lines(head)
    wanted = {_IMAGE, _CAPTIONS}
    if objects:
        return any(wanted <= value.keys() for value in objects)
    return {_IMAGE, f"{_CAPTIONS}[]"} <= outline(head)


@register_reader("xflickrco")
class XflickrcoReader(CaptionReader):
    """``{"sentences": ["..."], "id": "1007129816", "img_path": "1007129816.jpg"}``; training files of Flickr30k have
    five sentences a line. A line whose sentences are all empty, of which German and Indonesian have one each, is left
    out with its image. The files are found where the data sets have them: ``flickr30k-images``, ``coco/val2014``."""

    def sniff(self, head: str) -> bool:
        return looks_like_xflickrco(head)

    def read(self, source: CaptionSource, rows: TableBuilder) -> None:
        for number, row in iter_lines(source.path, rows.skip):
            image, captions = _fields(row, number, rows)
            if image is None:
                continue
            if all(isinstance(caption, str) and not caption.strip() for caption in captions):
                why = f"'{image}' has no caption but empty ones"
                rows.skip(NO_CAPTION, why, number, _CAPTIONS, captions=len(captions))
                continue
            for caption in captions:
                if isinstance(caption, str):
                    rows.add(number, image, caption)
                else:
                    why = f"expected strings in the list, found {type_name(caption)}"
                    rows.skip(WRONG_TYPE, why, number, _CAPTIONS)


def _fields(row: Any, number: int, rows: TableBuilder) -> tuple:
    """Image and captions of a line; None twice, where it has not both, which is counted."""
    if not isinstance(row, dict):
        rows.skip(WRONG_TYPE, f"expected an object, found {type_name(row)}", number)
        return None, None
    for field, kinds, wanted in ((_IMAGE, str, "a string"), (_CAPTIONS, (str, list), "a string or a list of strings")):
        if field not in row:
            rows.skip(MISSING_FIELD, "is missing", number, field)
            return None, None
        if not isinstance(row[field], kinds):
            rows.skip(WRONG_TYPE, f"expected {wanted}, found {type_name(row[field])}", number, field)
            return None, None
    captions = row[_CAPTIONS]
    return row[_IMAGE], [captions] if isinstance(captions, str) else captions
