"""Tab-separated columns: ``image, English, caption`` or ``image, caption`` (CLL-CLIP's training files), ``caption,
URL`` (CC3M), or what a header or ``--captions-columns`` says (WIT).

Columns are told by what they hold, see :mod:`mlvl_fairseq.data.captions.columns`.
"""

import csv
import logging
import re
from collections import Counter
from itertools import chain, islice
from typing import Iterable, Iterator, Optional

from mlvl_fairseq.data.captions.cells import is_file_name, is_url
from mlvl_fairseq.data.captions.columns import LAYOUTS, Columns, find_columns, languages_of_header
from mlvl_fairseq.data.captions.json_rows import has_keys
from mlvl_fairseq.data.captions.lines import text_lines
from mlvl_fairseq.data.captions.readers.token import is_token_line
from mlvl_fairseq.data.captions.reading import CaptionReader, CaptionSource, register_reader
from mlvl_fairseq.data.captions.table import WRONG_COLUMN, WRONG_COLUMN_COUNT, TableBuilder, shown
from mlvl_fairseq.errors import DataError

logger = logging.getLogger(__name__)

_HEAD_LINES = 1000
_QUOTED = re.compile(r'"((?:[^"]|"")*)"')
Record = tuple[int, Optional[list[str]]]  # number of its (first) line, cells; None: its quotation does not close


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
        first = [cells for _, cells in _records(head, width, quoted) if cells and len(cells) == width]
        columns = find_columns(first or [[""] * width], width, source.path, source.lang, source.columns)
        header = first[0] if columns.header else None
        _tell(columns, header, quoted, source)
        for number, cells in _records(chain(head, lines), width, quoted):
            if cells is None:
                rows.skip(WRONG_COLUMN_COUNT, "opens a quotation that does not close", number)
            elif len(cells) != width:
                rows.skip(WRONG_COLUMN_COUNT, f"expected {_expected(columns)}, found {len(cells)}", number)
            elif cells != header:
                _add(cells, columns, number, source.lang, rows)
            elif number > 1:
                rows.skip(WRONG_COLUMN, "repeats the header", number)


def _add(cells: list[str], columns: Columns, number: int, lang: Optional[str], rows: TableBuilder) -> None:
    image, caption = cells[columns.image].strip(), cells[columns.caption]
    language = None if columns.language is None else cells[columns.language].strip()
    if language is not None and lang is not None and language.lower() != lang.lower():
        rows.other_languages[language] += 1
    elif columns.files and len(image.split()) > 1 and not is_file_name(image) and not is_url(image):
        rows.skip(WRONG_COLUMN, f"{shown(image)} is no name of a file, as the column's others are", number, "image")
    elif columns.english is None:
        rows.add(number, image, caption)
    else:
        rows.add(number, image, caption, cells[columns.english])


def _tell(columns: Columns, header: Optional[list[str]], quoted: bool, source: CaptionSource) -> None:
    """What was found beside the plain layouts."""
    found = []
    if header:
        found.append(f"line 1 is a header ({', '.join(header)})")
    plain = {"image": 0, "caption": columns.width - 1, "english": 1 if columns.width == 3 else None}
    if any(getattr(columns, role) != place for role, place in plain.items()):
        places = {role: getattr(columns, role) for role in (*plain, "language")}
        said = ", ".join(f"{role} is column {place + 1}" for role, place in places.items() if place is not None)
        found.append(said)
    if quoted:
        found.append("cells are quoted as in CSV")
    if found:
        logger.info("%s: %s", source.path, "; ".join(found))


def _expected(columns: Columns) -> str:
    layout = f" ({LAYOUTS[columns.width]})" if columns.width in LAYOUTS else ""
    return f"{columns.width} tab-separated columns{layout}"


def _without_blank_end(path) -> Iterator[tuple[int, str]]:
    """Lines with their numbers; blank ones at the end of the file are none."""
    blank: list[tuple[int, str]] = []
    for number, line in enumerate(text_lines(path), 1):
        if line.strip(" "):
            yield from blank
            blank = []
            yield number, line
        else:
            blank.append((number, line))


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
    for line, row, after in zip(lines, rows, rows[1:]):
        if len(row) == width and _opens(line) and len(after) < width and after[-1].endswith('"'):
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
