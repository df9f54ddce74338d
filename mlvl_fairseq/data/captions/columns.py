"""Which column of a table is the image, which the caption: by a header's names, else by what the columns hold."""

import logging
from dataclasses import dataclass
from itertools import chain, islice
from typing import Iterator, Optional, Sequence

from mlvl_fairseq.data.captions.cells import (
    OPTION,
    find_role,
    is_file_name,
    is_header_word,
    is_id,
    is_url,
    most,
    parse_columns,
    plain_name,
)
from mlvl_fairseq.data.captions.reading import CaptionSource
from mlvl_fairseq.data.captions.table import WRONG_COLUMN, WRONG_COLUMN_COUNT, TableBuilder, shown
from mlvl_fairseq.errors import DataError

logger = logging.getLogger(__name__)

LAYOUTS = {2: "image, caption", 3: "image, English, caption"}
_MOSTLY_FILES = 0.9  # so many names with an ending make a first row without one a header
KINDS = {"file": "file names", "url": "URLs", "id": "ids", "text": "text"}


_HEAD_ROWS = 1000

Record = tuple[int, Optional[list[str]]]  # number of its (first) line, cells; None: its quotation does not close


@dataclass(frozen=True)
class Columns:
    """Places of image, caption, and where there are such, English sentence and language; 0-based.

    Attributes:
        header: the first row names the columns.
        files: images are file names or URLs: sentences among them stand in the wrong column.
    """

    width: int
    image: int
    caption: int
    english: Optional[int] = None
    language: Optional[int] = None
    header: bool = False
    files: bool = False


def read_columns(
    records: Iterator[Record], width: int, source: CaptionSource, rows: TableBuilder, separator: str
) -> None:
    """Add the captions of a table, whose columns are told by its first rows, to ``rows``.

    Args:
        width: cells of a row; others are counted. separator: what is between cells, in words.

    Raises:
        DataError: see :func:`find_columns`; or by the policy for problems.
    """
    head = list(islice(records, _HEAD_ROWS))
    first = [cells for _, cells in head if cells and len(cells) == width] or [[""] * width]
    columns = find_columns(first, width, source.path, source.lang, source.columns)
    header = first[0] if columns.header else None
    _tell(columns, header, source.path)
    layout = f" ({LAYOUTS[width]})" if width in LAYOUTS and not header else ""
    for number, cells in chain(head, records):
        if cells is None:
            rows.skip(WRONG_COLUMN_COUNT, "opens a quotation that does not close", number)
        elif len(cells) != width:
            why = f"expected {width} columns{layout} with {separator} between them, found {len(cells)}"
            rows.skip(WRONG_COLUMN_COUNT, why, number)
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


def _tell(columns: Columns, header: Optional[list[str]], path: str) -> None:
    """What was found beside the plain layouts."""
    found = [f"line 1 is a header ({', '.join(header)})"] if header else []
    plain = {"image": 0, "caption": columns.width - 1, "english": 1 if columns.width == 3 else None}
    if any(getattr(columns, role) != place for role, place in plain.items()):
        places = {role: getattr(columns, role) for role in (*plain, "language")}
        found.append(", ".join(f"{role} is column {place + 1}" for role, place in places.items() if place is not None))
    if found:
        logger.info("%s: %s", path, "; ".join(found))


def find_columns(rows: Sequence[Sequence[str]], width: int, path, lang: Optional[str], given: Optional[str]) -> Columns:
    """Tell the columns of a table by its first rows.

    Args:
        rows: of `width` cells each. lang: language that is asked for, which may be a column's name.
        given: see :func:`~mlvl_fairseq.data.captions.cells.parse_columns`.

    Raises:
        DataError: the columns could be told in several ways, or none holds captions.
    """
    body = rows[1:] or rows
    kinds = [_kind([row[column] for row in body]) for column in range(width)]
    header = _is_header(rows, kinds)
    if given:
        places = _given(parse_columns(given), rows[0], width, path)
        named = any(not place.isdigit() for place in parse_columns(given).values())
        return Columns(width, **places, header=header or named, files=kinds[places["image"]] in ("file", "url"))
    places = _by_names(rows[0], path, lang) if header else {}
    if not places:
        places = _by_content(kinds, path)
    return Columns(width, **places, header=header, files=kinds[places["image"]] in ("file", "url"))


def _kind(cells: Sequence[str]) -> str:
    for kind, holds in (("url", is_url), ("file", is_file_name), ("id", is_id)):
        if most(cells, holds):
            return kind
    return "text"


def _is_header(rows: Sequence[Sequence[str]], kinds: Sequence[str]) -> bool:
    """Names the first row the columns? It does if all its cells are names that columns have, or if it has no file name
    where (nearly) all other rows have one."""
    first = [cell.strip() for cell in rows[0]]
    if any(is_file_name(cell) or is_url(cell) for cell in first) or not all(first):
        return False
    if all(map(is_header_word, first)) or find_role("image", first) and all(map(_is_name, first)):
        return True
    for column, kind in enumerate(kinds):
        if kind in ("file", "url") and len(rows) > 2:
            names = sum(is_file_name(row[column]) or is_url(row[column]) for row in rows[1:])
            if names >= _MOSTLY_FILES * (len(rows) - 1):
                return is_header_word(first[column]) or " " not in first[column]
    return False


def _is_name(cell: str) -> bool:
    return is_header_word(cell) or _is_code(cell)


def _is_code(cell: str) -> bool:
    """``de``, ``quz``, ``zh-CN``."""
    return cell.split("-")[0].split("_")[0].isalpha() and len(cell.split("-")[0].split("_")[0]) in (2, 3)


def languages_of_header(cells: Sequence[str]) -> list[str]:
    """The languages that have a column each (``image en de``); of a table with a column that names a language, its
    name."""
    if not find_role("image", cells):
        return []
    codes = [cell.strip() for cell in cells if _is_code(cell.strip()) and not is_header_word(cell)]
    return codes if len(codes) > 1 else find_role("language", cells)


def _by_names(header: Sequence[str], path, lang: Optional[str]) -> dict[str, int]:
    """Role -> column. Empty if the header has no known name for image and caption."""
    names = [plain_name(cell) for cell in header]
    codes = [name for name in languages_of_header(names) if _is_code(name)]
    found = {role: find_role(role, names) for role in ("image", "caption", "english", "language")}
    if codes and not found["caption"]:
        if plain_name(lang or "") not in codes:
            raise DataError(f"has no column of language '{lang}'; it has {', '.join(codes)}", path, line=1)
        found["caption"] = [plain_name(lang)]
        found["english"] = ["en"] if "en" in codes and lang != "en" else []
    for role in ("image", "caption"):
        if len(found[role]) > 1:
            several = " and ".join(f"'{name}'" for name in found[role])
            message = f"the columns {several} could each be the {role}; say which: {OPTION} image=NAME,caption=NAME"
            raise DataError(message, path, line=1)
        if not found[role]:
            return {}
    return {role: names.index(places[0]) for role, places in found.items() if places}


def _by_content(kinds: Sequence[str], path) -> dict[str, int]:
    """Role -> column. A file name or else a URL is the image; with neither, the first column, unless only another one
    holds ids. What is neither a URL nor an id is text: the caption, or English and caption in this order."""
    width = len(kinds)
    image = _image_column(kinds, path)
    texts = [column for column in range(width) if column != image and kinds[column] == "text"]
    if len(texts) == 1:
        return {"image": image, "caption": texts[0]}
    if len(texts) == 2 and width == 3 and image == 0:
        return {"image": 0, "english": 1, "caption": 2}
    held = ", ".join(f"{column}: {KINDS[kind]}" for column, kind in enumerate(kinds, 1))
    if not texts:
        raise DataError(f"no column holds captions ({held}); {_SAY}", path)
    if width in LAYOUTS:
        raise DataError(f"cannot tell which column is the caption ({held}); {_SAY}", path)
    layouts = " or ".join(f"{number} ({names})" for number, names in LAYOUTS.items())
    raise DataError(f"expected {layouts} tab-separated columns, found {width} ({held}); {_SAY}", path, line=1)


_SAY = f"say which: {OPTION} image=1,caption=2"


def _image_column(kinds: Sequence[str], path) -> int:
    for kind in ("file", "url"):
        columns = [column for column, held in enumerate(kinds) if held == kind]
        if len(columns) > 1:
            several = " and ".join(str(column + 1) for column in columns)
            raise DataError(f"columns {several} each hold {KINDS[kind]}; {_SAY}", path)
        if columns:
            return columns[0]
    ids = [column for column, held in enumerate(kinds) if held == "id"]
    if len(ids) > 1:
        several = " and ".join(str(column + 1) for column in ids)
        raise DataError(f"columns {several} each hold ids, one of them the image's; {_SAY}", path)
    return ids[0] if ids and len(kinds) == 2 else 0


def _given(places: dict[str, str], header: Sequence[str], width: int, path) -> dict[str, int]:
    names = [plain_name(cell) for cell in header]
    columns = {}
    for role, place in places.items():
        if place.isdigit() and 1 <= int(place) <= width:
            columns[role] = int(place) - 1
        elif plain_name(place) in names:
            columns[role] = names.index(plain_name(place))
        else:
            raise DataError(f"{OPTION} {role}={place}: there are columns 1 to {width} ({', '.join(header)})", path, 1)
    return columns
