"""JSON lists of ``{"image", "caption", "image_id"}``: the files of LilT, CCLM and CLL-CLIP's evaluation."""

import re

from mlvl_fairseq.data.captions.json_rows import iter_list, names_its_language, read_rows
from mlvl_fairseq.data.captions.lines import raw_lines
from mlvl_fairseq.data.captions.reading import CaptionReader, CaptionSource, register_reader
from mlvl_fairseq.data.captions.table import TableBuilder

_HEAD = re.compile(r"\s*\[\s*(\{|\]|$)")


@register_reader("json")
class JsonListReader(CaptionReader):
    """One caption (string) or several (list of strings) a row; ``image_id`` and other fields are optional."""

    unit = "row"
    has_columns = True

    def sniff(self, head: str) -> bool:
        return bool(_HEAD.match(head))

    def holds_languages(self, source: CaptionSource) -> bool:
        return names_its_language(next(iter_list("".join(raw_lines(source.path)), source.path), None))

    def read(self, source: CaptionSource, rows: TableBuilder) -> None:
        read_rows(enumerate(iter_list("".join(raw_lines(source.path)), source.path), 1), source, rows)
