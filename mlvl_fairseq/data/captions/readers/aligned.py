"""Plain text, one caption a line, with an image list (and perhaps English) aligned to it line by line."""

from itertools import zip_longest
from typing import Iterator

from mlvl_fairseq.data.captions.lines import text_lines
from mlvl_fairseq.data.captions.reading import CaptionReader, CaptionSource, register_reader
from mlvl_fairseq.data.captions.table import TableBuilder
from mlvl_fairseq.errors import DataError


@register_reader("aligned")
class AlignedReader(CaptionReader):
    """Files in the manner of Multi30k and XTD10: line k of each file belongs to line k of the others."""

    companions = frozenset({"image_list", "english"})
    required = frozenset({"image_list"})
    any_text = True

    def sniff(self, head: str) -> bool:
        return True

    def read(self, source: CaptionSource, rows: TableBuilder) -> None:
        paths = [source.path, source.image_list] + ([source.english] if source.english else [])
        for number, (caption, image, *english) in enumerate(aligned_lines(paths), 1):
            rows.add(number, image, caption, *english)


def aligned_lines(paths: list[str]) -> Iterator[tuple[str, ...]]:
    """Lines of several files side by side; blank lines at the end of any of them are none.

    Raises:
        DataError: the files have different numbers of lines, at the first line too many.
    """
    blank: list[tuple[str, ...]] = []
    for number, lines in enumerate(zip_longest(*map(text_lines, paths)), 1):
        if not any(line and line.strip() for line in lines):
            blank.append(blank[-1] if blank and blank[-1] == lines else lines)  # one, however many there are
            continue
        for row, earlier in enumerate(blank, number - len(blank)):
            yield _all_there(earlier, paths, row)
        blank = []
        yield _all_there(lines, paths, number)


def _all_there(lines: tuple, paths: list[str], number: int) -> tuple[str, ...]:
    short = next((path for path, line in zip(paths, lines) if line is None), None)
    if short is not None:
        longer = next(path for path, line in zip(paths, lines) if line is not None)
        raise DataError(f"has no line {number}, but '{longer}' has; aligned files need equal length", short)
    return lines
