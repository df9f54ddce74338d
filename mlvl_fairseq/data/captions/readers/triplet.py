"""Tab-separated columns: ``image, English, caption`` or ``image, caption`` (CLL-CLIP's training files), ``caption,
URL`` (CC3M), or what a header or ``--captions-columns`` says (WIT).

Columns are told by what they hold, see :mod:`mlvl_fairseq.data.captions.columns`.
"""

import csv
import logging
import re
from collections import Counter
from itertools import chain, islice, takewhile
from typing import Iterable, Iterator

from mlvl_fairseq.data.captions.columns import LAYOUTS, Record, languages_of_header, read_columns
from mlvl_fairseq.data.captions.json_rows import has_keys
from mlvl_fairseq.data.captions.lines import text_lines
from mlvl_fairseq.data.captions.readers.token import is_token_line
from mlvl_fairseq.data.captions.reading import CaptionReader, CaptionSource, register_reader
from mlvl_fairseq.data.captions.table import TableBuilder
from mlvl_fairseq.errors import DataError

logger = logging.getLogger(__name__)

_HEAD_LINES = 1000
_LONGEST_CELL = 20  # lines of a quoted cell that shows that cells are quoted
_QUOTED = re.compile(r'"((?:[^"]|"")*)"')


@register_reader("triplet")
class TripletReader(CaptionReader):
    """Every line has the column count that most of the first lines have; others are counted.

    Cells may be quoted as in CSV (``"a ""red"" car"``), if doubled quotation marks or a column of quoted cells among
    the first lines show it; otherwise quotation marks are text.
    """

    has_columns = True

    def sniff(self, head: str) -> bool:
        lines = [line for line in head.split("\n") if line.strip()]
        lines = lines[:-1] if len(lines) > 1 and not head.endswith("\n") else lines
        tabbed = [line for line in lines if "\t" in line and not is_token_line(line)]
        return bool(tabbed) and 2 * len(tabbed) >= len(lines) and not has_keys(head)

    def holds_languages(self, source: CaptionSource) -> bool:
        first = next(text_lines(source.path), "")
        return bool(languages_of_header([_unquoted(cell) for cell in first.split("\t")]))

    def read(self, source: CaptionSource, rows: TableBuilder) -> None:
        lines = _without_blank_end(source.path)
        head = list(islice(lines, _HEAD_LINES))
        width = _width([line for _, line in head], source.path)
        quoted = _is_quoted([line for _, line in head], width)
        if quoted:
            logger.info("%s: cells are quoted as in CSV", source.path)
        read_columns(_records(chain(head, lines), width, quoted), width, source, rows, "tabs")


def _without_blank_end(path) -> Iterator[tuple[int, str]]:
    """Lines with their numbers; blank ones at the end of the file are none."""
    blank: list[str] = []
    for number, line in enumerate(text_lines(path), 1):
        if line.strip(" "):
            yield from enumerate(blank, number - len(blank))
            blank = []
            yield number, line
        else:
            blank.append(line)


def _width(head: list[str], path) -> int:
    if not head:
        raise DataError("is empty", path)
    counts = Counter(line.count("\t") + 1 for line in head)
    fitting = [(count, width in LAYOUTS, width) for width, count in counts.items() if width > 1]
    if not fitting:
        layouts = " or ".join(f"{width} ({names})" for width, names in LAYOUTS.items())
        raise DataError(f"expected {layouts} tab-separated columns, found 1", path, line=1)
    return max(fitting)[2]


def _is_quoted(lines: list[str], width: int) -> bool:
    """Are cells quoted as in CSV? Doubled marks in a quoted cell show it, a tab or a line's end in one, and a column of
    quoted cells."""
    rows = [line.split("\t") for line in lines]
    if any('""' in match[1] for row in rows for match in map(_QUOTED.fullmatch, row) if match):
        return True
    if any(len(row) > width and len(_csv_cells(line)) == width for line, row in zip(lines, rows) if '"' in line):
        return True
    for number, (line, row) in enumerate(zip(lines, rows), 1):
        if len(row) == width and _opens(line):
            behind = takewhile(lambda row: len(row) < width, rows[number : number + _LONGEST_CELL])
            if any(row[-1].endswith('"') for row in behind):
                return True
    columns = list(zip(*(row for row in rows if len(row) == width)))
    return len(rows) > 1 and any(all(map(_QUOTED.fullmatch, column)) for column in columns)


def _records(lines: Iterable[tuple[int, str]], width: int, quoted: bool) -> Iterator[Record]:
    """Rows of cells. A quotation may go on in the next lines, as CSV has it, where these have too few columns."""
    if not quoted:
        yield from ((number, _plain_cells(line)) for number, line in lines)
        return
    held: list[tuple[int, str]] = []
    for number, line in lines:
        if held and line.count("\t") < width - 1:
            held.append((number, line))
        else:
            yield from _given_up(held)
            held = [(number, line)]
        text = "\n".join(part for _, part in held)
        if not _opens(text):
            yield held[0][0], _quoted_cells(text, width)
            held = []
    yield from _given_up(held)


def _opens(text: str) -> bool:
    """Does the last cell of a line begin a quotation that does not end in it, nor in the lines behind it?"""
    first = text.partition("\n")[0]
    last = text[first.rfind("\t") + 1 :]
    return last.startswith('"') and last.count('"') % 2 == 1


def _given_up(held: list[tuple[int, str]]) -> Iterator[Record]:
    yield from ((number, None) for number, _ in held)


def _plain_cells(line: str) -> list[str]:
    """Cells of a table without quoting; a cell with doubled marks is quoted all the same."""
    cells = line.split("\t")
    return [_unquoted(cell) if '""' in cell[1:-1] else cell for cell in cells] if '""' in line else cells


def _quoted_cells(text: str, width: int) -> list[str]:
    cells = text.split("\t")
    return _csv_cells(text) if len(cells) != width or "\n" in text else [_unquoted(cell) for cell in cells]


def _csv_cells(text: str) -> list[str]:
    try:
        return next(csv.reader([f"{line}\n" for line in text.split("\n")], delimiter="\t"))
    except csv.Error:  # a cell of more than 131,072 characters
        return text.split("\t")


def _unquoted(cell: str) -> str:
    match = _QUOTED.fullmatch(cell)
    return match[1].replace('""', '"') if match else cell
