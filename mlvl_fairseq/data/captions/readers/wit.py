"""IGLUE's lists of WIT (Srinivasan et al. 2021; Bugliarello et al. 2022): Wikipedia's pictures by URL, with what stands
below them."""

from mlvl_fairseq.data.captions.json_rows import (
    is_of_other_language,
    iter_lines,
    names_its_language,
    object_lines,
    outline,
    type_name,
)
from mlvl_fairseq.data.captions.reading import CaptionReader, CaptionSource, register_reader
from mlvl_fairseq.data.captions.table import EMPTY_CAPTION, MISSING_FIELD, WRONG_TYPE, TableBuilder
from mlvl_fairseq.data.captions.wit import CAPTION, URL, picture_name


def looks_like_wit(head: str) -> bool:
    objects = object_lines(head)
    return any({URL, CAPTION} <= value.keys() for value in objects) if objects else {URL, CAPTION} <= outline(head)


@register_reader("wit")
class WitReader(CaptionReader):
    """``{"image_url": "https://...", "caption_reference_description": "...", "language": "en", ...}``. Below an image
    root an image is called as ``mlvl-convert wit-pixels`` writes it, otherwise by its URL. Lines of one URL are
    captions of one image; a line without a caption is left out."""

    def sniff(self, head: str) -> bool:
        return looks_like_wit(head)

    def holds_languages(self, source: CaptionSource) -> bool:
        return names_its_language(next((row for _, row in iter_lines(source.path, lambda *_: None)), None))

    def read(self, source: CaptionSource, rows: TableBuilder) -> None:
        for number, row in iter_lines(source.path, rows.skip):
            if not isinstance(row, dict):
                rows.skip(WRONG_TYPE, f"expected an object, found {type_name(row)}", number)
            elif not isinstance(row.get(URL), str):
                rows.skip(MISSING_FIELD, "is missing, or no string", number, URL)
            elif is_of_other_language(row, "language", source.lang):
                rows.other_languages[row["language"]] += 1
            elif not row.get(CAPTION):
                rows.skip(EMPTY_CAPTION, "is empty", number, CAPTION)
            elif not isinstance(row[CAPTION], str):
                rows.skip(WRONG_TYPE, f"expected a string, found {type_name(row[CAPTION])}", number, CAPTION)
            else:
                url = row[URL].strip()
                rows.add(number, url if rows.image_root is None else picture_name(url), row[CAPTION])
