"""Plain text, one caption a line, with an image list (and perhaps English) aligned to it line by line."""

from itertools import zip_longest
from typing import Iterator

from mlvl_fairseq.data.captions.readers.coco import looks_like_coco
from mlvl_fairseq.data.captions.reading import CaptionReader, CaptionSource, register_reader, text_lines
from mlvl_fairseq.data.captions.table import TableBuilder
from mlvl_fairseq.errors import DataError


@register_reader("aligned")
class AlignedReader(CaptionReader):
    """Files in the manner of Multi30k: line k of each file belongs to line k of the others."""

    patterns = ("*",)
    companions = frozenset({"image_list", "english"})
    required = frozenset({"image_list"})

    def sniff(self, head: str) -> bool:
        return not looks_like_coco(head)  # any text is; only an image list tells it apart

    def read(self, source: CaptionSource, rows: TableBuilder) -> None:
        paths = [source.path, source.image_list] + ([source.english] if source.english else [])
        for number, (caption, image, *english) in enumerate(_aligned_lines(paths), 1):
            rows.add(number, image, caption, *english)


def _aligned_lines(paths: list[str]) -> Iterator[tuple[str, ...]]:
    """Lines of several files side by side; files of different length are a DataError at the first line too many."""
    for number, lines in enumerate(zip_longest(*map(text_lines, paths)), 1):
        short = next((path for path, line in zip(paths, lines) if line is None), None)
        if short is not None:
            longer = next(path for path, line in zip(paths, lines) if line is not None)
            raise DataError(f"has no line {number}, but '{longer}' has; aligned files need equal length", short)
        yield lines
