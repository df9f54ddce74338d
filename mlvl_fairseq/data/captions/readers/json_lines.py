"""JSON lines: an object with image and caption, or captions, in each line."""

from mlvl_fairseq.data.captions.cells import find_role
from mlvl_fairseq.data.captions.json_rows import iter_lines, names_its_language, object_lines, outline, read_rows
from mlvl_fairseq.data.captions.readers.wit import looks_like_wit
from mlvl_fairseq.data.captions.readers.xflickrco import looks_like_xflickrco
from mlvl_fairseq.data.captions.readers.xm3600 import looks_like_xm3600
from mlvl_fairseq.data.captions.reading import CaptionReader, CaptionSource, register_reader
from mlvl_fairseq.data.captions.table import TableBuilder


@register_reader("jsonl")
class JsonLinesReader(CaptionReader):
    """The fields may have any of the names that publishers give them (``image``, ``img_path``, ``file_name``, ...;
    ``caption``, ``sentences``, ...). Of rows with a ``language`` those of the language that is asked for are read."""

    has_columns = True

    def sniff(self, head: str) -> bool:
        objects = object_lines(head)
        names = {name for value in objects for name in value} if objects else _first_keys(head)
        if any(looks_like(head) for looks_like in (looks_like_wit, looks_like_xflickrco, looks_like_xm3600)):
            return False
        return bool(find_role("image", names) or find_role("caption", names))

    def read(self, source: CaptionSource, rows: TableBuilder) -> None:
        lines = iter_lines(source.path, rows.skip)
        read_rows(lines, source, rows)

    def holds_languages(self, source: CaptionSource) -> bool:
        return names_its_language(next((row for _, row in iter_lines(source.path, lambda *_: None)), None))


def _first_keys(head: str) -> set[str]:
    """The keys of a first line that is longer than the head."""
    return set() if "\n" in head.strip() else {key for key in outline(head) if "." not in key and "[" not in key}
