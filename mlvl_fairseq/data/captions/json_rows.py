"""What the readers of JSON share: the outline of a text that may be cut off, lists read element by element, and rows
``{"image": ..., "caption": ...}`` under the names that publishers give to these fields."""

import json
import re
from collections import Counter
from itertools import chain, islice
from typing import Any, Callable, Hashable, Iterable, Iterator, Optional

from mlvl_fairseq.data.captions.cells import NAMES, OPTION, find_role, parse_columns
from mlvl_fairseq.data.captions.lines import raw_lines
from mlvl_fairseq.data.captions.reading import CaptionSource
from mlvl_fairseq.data.captions.table import (
    DAMAGED_LINE,
    EMPTY_CAPTION,
    IMAGE_ID_CONFLICT,
    MISSING_FIELD,
    WRONG_TYPE,
    TableBuilder,
)
from mlvl_fairseq.errors import DataError

_SPACE = re.compile(r"[ \t\n\r]*")
_SEPARATOR = re.compile(r"[ \t\n\r]*([,\]])[ \t\n\r]*")
_TOKEN = re.compile(r'"((?:[^"\\\n]|\\.)*)"|[{}\[\],]')
_HEAD_ROWS = 1000
_DEEPEST = 8  # no format has anything that tells it from others deeper down
_CODE = re.compile(r"[a-z]{2,3}([-_]\w+)*", re.IGNORECASE)


def outline(text: str) -> set[str]:
    """The keys that a JSON text shows, with the way to each: ``{"images", "images[].file_name"}``; of a list ``"[]"``,
    ``"[].image"``. The text may end anywhere, and what is no JSON has no keys."""
    paths: set[str] = set()
    if text.lstrip()[:1] not in ("{", "["):
        return paths
    stack: list[list] = []  # of what is open: bracket, the way to its members, the key whose value comes
    for token in _TOKEN.finditer(text):
        symbol = token[0]
        if symbol in "{[":
            if len(stack) == _DEEPEST:
                break
            way = "" if not stack else stack[-1][1] if stack[-1][0] == "[" else f"{stack[-1][1]}{stack[-1][2]}"
            if symbol == "[":
                paths.add(f"{way}[]")
            stack.append([symbol, f"{way}[]" if symbol == "[" else f"{way}." if way else "", None])
        elif symbol in "}]":
            if stack:
                stack.pop()
        elif symbol == ",":
            if stack:
                stack[-1][2] = None
        elif stack and stack[-1][0] == "{" and stack[-1][2] is None:
            stack[-1][2] = token[1]
            paths.add(f"{stack[-1][1]}{token[1]}")
    return paths


def has_keys(text: str) -> bool:
    """Does a text begin as JSON with objects does?"""
    return any(not path.endswith("[]") for path in outline(text))


def object_lines(head: str) -> list[dict]:
    """The lines of a head that are JSON objects by themselves, if most are; a last line that may be cut is left out."""
    parts = head.split("\n")
    lines = [line for line in (parts[:-1] if len(parts) > 1 else parts) if line.strip()]
    objects = [value for value in map(_object_or_none, lines) if value is not None]
    return objects if 2 * len(objects) > len(lines) else []


def _object_or_none(line: str) -> Optional[dict]:
    if not line.lstrip().startswith("{"):
        return None
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def load_object(path, fields: tuple[str, ...], kind: str) -> dict:
    """A file that is one JSON object with lists under ``fields``.

    Raises:
        DataError: it is not; ``kind`` says which file is expected.
    """
    text = "".join(raw_lines(path))
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise _syntax_error(error.msg, text, error.pos, path) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"not valid JSON: {error}", path) from None
    for field in fields:
        if not isinstance(content, dict) or not isinstance(content.get(field), list):
            raise DataError(f"is missing or no list; give a file of {kind}", path, field=field)
    return content


def read_rows(rows: Iterable[tuple[int, Any]], source: CaptionSource, table: TableBuilder) -> None:
    """Add the captions of rows (number, value) to a table.

    Which fields hold image and caption is the file's, told by its first rows, or ``source.columns``.

    Raises:
        DataError: two fields could be it; or by the policy for problems.
    """
    rows = iter(rows)
    head = list(islice(rows, _HEAD_ROWS))
    fields = _fields(head, source)
    names_by_id: dict[Hashable, str] = {}
    for number, row in chain(head, rows):
        if not isinstance(row, dict):
            table.skip(WRONG_TYPE, f"expected an object, found {type_name(row)}", number)
        elif is_of_other_language(row, fields.get("language"), source.lang):
            table.other_languages[row[fields["language"]]] += 1
        elif _has_fields(row, fields, number, table):
            _note_id_conflict(row, row[fields["image"]], number, names_by_id, table)
            english = [row[fields["english"]]] if "english" in fields else []
            for caption in _captions(row[fields["caption"]]):
                if isinstance(caption, str):
                    table.add(number, row[fields["image"]], caption, *english)
                else:
                    why = f"expected strings in the list, found {type_name(caption)}"
                    table.skip(WRONG_TYPE, why, number, fields["caption"])


def _fields(head: list[tuple[int, Any]], source: CaptionSource) -> dict[str, str]:
    """Role -> the field that has it in this file."""
    given = parse_columns(source.columns)
    if given:
        return given
    counts = Counter(name for _, row in head if isinstance(row, dict) for name in row)
    fields = {}
    for role in ("image", "caption", "language"):
        found = find_role(role, counts)
        often = max((counts[name] for name in found), default=0)
        found = [name for name in found if 2 * counts[name] > often]  # a field of some rows only is not the file's
        if len(found) > 1:
            several = " and ".join(f"'{name}'" for name in found)
            message = f"the fields {several} could each be the {role}; say which: {OPTION} image=FIELD,caption=FIELD"
            raise DataError(message, source.path)
        if found or role != "language":
            fields[role] = found[0] if found else role
    return fields


def names_its_language(row: Any) -> bool:
    """Has a row a field that says its language?"""
    return isinstance(row, dict) and bool(find_role("language", row))


def is_of_other_language(row: dict, field: Optional[str], lang: Optional[str]) -> bool:
    """Says a row, by a language code, that it is of another language than ``lang``?"""
    value = row.get(field) if field else None
    if lang is None or not isinstance(value, str) or not _CODE.fullmatch(value):
        return False
    return value.lower().replace("_", "-") != lang.lower().replace("_", "-")


def _captions(value) -> list:
    """Several captions are a list of strings, or of objects that hold one (``{"caption": ...}``, ``{"raw": ...}``)."""
    return [_caption_of(caption) for caption in ([value] if isinstance(value, str) else value)]


def _caption_of(value):
    if isinstance(value, dict):
        found = [value[name] for name in ("raw", *chain.from_iterable(NAMES["caption"])) if name in value]
        return found[0] if len(found) == 1 else value
    return value


_STRING = (str, "a string")
_TYPES = {
    "image": _STRING,
    "caption": ((str, list), "a string or a list of strings"),
    "english": _STRING,
}


def _has_fields(row: dict, fields: dict[str, str], number: int, rows: TableBuilder) -> bool:
    """Are image and caption (and English, where a field is for it) there, and of a usable type? If not, the row is
    counted."""
    for role, (types, wanted) in _TYPES.items():
        if role not in fields:
            continue
        field = fields[role]
        if field not in row:
            rows.skip(MISSING_FIELD, "is missing", number, field)
            return False
        if not isinstance(row[field], types):
            rows.skip(WRONG_TYPE, f"expected {wanted}, found {type_name(row[field])}", number, field)
            return False
    if row[fields["caption"]] == []:
        rows.skip(EMPTY_CAPTION, "is an empty list", number, fields["caption"])
        return False
    return True


def _note_id_conflict(row: dict, name: str, number: int, names_by_id: dict[Hashable, str], rows: TableBuilder) -> None:
    """Images are told apart by name, so an ``image_id`` that two names share is only worth a note."""
    image_id = row.get("image_id")
    if image_id is None:
        return
    if not isinstance(image_id, (int, str)):
        rows.note(WRONG_TYPE, f"expected a number or a string, found {type_name(image_id)}", number, "image_id")
        return
    known = names_by_id.setdefault(image_id, name)
    if known != name:
        why = f"{image_id!r} is the id of {known!r} already, here of {name!r}"
        rows.note(IMAGE_ID_CONFLICT, why, number, "image_id")


def iter_list(text: str, path) -> Iterator[Any]:
    """Yield the elements of a JSON list one by one; half a million rows never exist as objects at the same time.

    Raises:
        DataError: not a JSON list (syntax errors with line and column), or nested too deeply.
    """
    position = _SPACE.match(text).end()
    if not text[position:]:
        raise DataError("is empty", path)
    if text[position] != "[":
        found = "JSON object" if text[position] == "{" else "other content"
        raise DataError(f'expected a JSON list [{{"image": ..., "caption": ...}}, ...], found {found}', path, line=1)
    decode = json.JSONDecoder().raw_decode
    position = _SPACE.match(text, position + 1).end()
    separator, row = text[position : position + 1], 0
    while separator != "]":
        row += 1
        try:
            value, position = decode(text, position)
        except json.JSONDecodeError as error:
            raise _syntax_error(error.msg, text, error.pos, path) from None
        except RecursionError:
            raise DataError(f"is nested too deeply for a list of captions (row {row})", path, row) from None
        except ValueError:  # Python refuses to convert integers of thousands of digits
            raise DataError(f"holds a number of too many digits (row {row})", path, row) from None
        yield value
        match = _SEPARATOR.match(text, position)
        if match is None:
            raise _syntax_error("Expecting ',' or ']'", text, _SPACE.match(text, position).end(), path)
        separator, position = match[1], match.end()
    if not row:  # the list is empty and its bracket not yet passed
        position = _SPACE.match(text, position + 1).end()
    if position < len(text):
        raise _syntax_error("Extra data", text, position, path)


def iter_lines(path, problems: Callable[[str, str, int], None]) -> Iterator[tuple[int, Any]]:
    """Yield the objects of JSON lines with their line numbers; blank lines are none. A line that is no JSON goes to
    ``problems(kind, why, line)``.

    Raises:
        DataError: the last line is cut off.
    """
    for number, line in enumerate(raw_lines(path), 1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except json.JSONDecodeError as error:
            if not line.endswith("\n"):
                message = f"not valid JSON: {_said(error.msg)} at column {error.colno} (the file ends here: truncated?)"
                raise DataError(message, path, number) from None
            problems(DAMAGED_LINE, f"not valid JSON: {_said(error.msg)} at column {error.colno}", number)
        except (ValueError, RecursionError) as error:
            problems(DAMAGED_LINE, f"not valid JSON: {error}", number)


def _said(message: str) -> str:
    """json's words, of which some end in ``at``."""
    return message.removesuffix(" at")


def _syntax_error(message: str, text: str, position: int, path) -> DataError:
    error = json.JSONDecodeError(message, text, position)
    end = " (the file ends here: truncated?)" if position >= len(text) else ""
    return DataError(f"not valid JSON: {_said(message)} at column {error.colno}{end}", path, error.lineno)


def type_name(value: Any) -> str:
    """``a list``, ``null``, ..., for messages."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
