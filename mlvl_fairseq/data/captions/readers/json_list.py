"""JSON lists of ``{"image", "caption", "image_id"}``: the files of LilT, CCLM and CLL-CLIP's evaluation."""

import json
import re
from typing import Any, Hashable, Iterator

from mlvl_fairseq.data.captions.readers.coco import looks_like_coco
from mlvl_fairseq.data.captions.reading import CaptionReader, CaptionSource, raw_lines, register_reader
from mlvl_fairseq.data.captions.table import EMPTY_CAPTION, IMAGE_ID_CONFLICT, MISSING_FIELD, WRONG_TYPE, TableBuilder
from mlvl_fairseq.errors import DataError

_SPACE = re.compile(r"[ \t\n\r]*")
_SEPARATOR = re.compile(r"[ \t\n\r]*([,\]])[ \t\n\r]*")


@register_reader("json")
class JsonListReader(CaptionReader):
    """One caption (string) or several (list of strings) a row; ``image_id`` and other fields are optional."""

    patterns = ("*.json", "*.json.gz")
    unit = "row"

    def sniff(self, head: str) -> bool:
        start = head.lstrip()[:1]
        return start == "[" or start == "{" and not looks_like_coco(head)  # an object is refused by name, in `read`

    def read(self, source: CaptionSource, rows: TableBuilder) -> None:
        names_by_id: dict[Hashable, str] = {}
        for number, row in enumerate(iter_list("".join(raw_lines(source.path)), source.path), 1):
            if not isinstance(row, dict):
                rows.skip(WRONG_TYPE, f"expected an object, found {_type_name(row)}", number)
            elif _has_fields(row, number, rows):
                _note_id_conflict(row, number, names_by_id, rows)
                captions = row["caption"]
                for caption in [captions] if isinstance(captions, str) else captions:
                    if isinstance(caption, str):
                        rows.add(number, row["image"], caption)
                    else:
                        why = f"expected strings in the list, found {_type_name(caption)}"
                        rows.skip(WRONG_TYPE, why, number, "caption")


def _has_fields(row: dict, number: int, rows: TableBuilder) -> bool:
    """Are ``image`` and ``caption`` there, and of a usable type? If not, the row is counted."""
    for field, types, wanted in (("image", str, "a string"), ("caption", (str, list), "a string or a list of strings")):
        if field not in row:
            rows.skip(MISSING_FIELD, "is missing", number, field)
            return False
        if not isinstance(row[field], types):
            rows.skip(WRONG_TYPE, f"expected {wanted}, found {_type_name(row[field])}", number, field)
            return False
    if row["caption"] == []:
        rows.skip(EMPTY_CAPTION, "is an empty list", number, "caption")
        return False
    return True


def _note_id_conflict(row: dict, number: int, names_by_id: dict[Hashable, str], rows: TableBuilder) -> None:
    """Images are told apart by name, so an ``image_id`` that two names share is only worth a note."""
    image_id = row.get("image_id")
    if image_id is None:
        return
    if not isinstance(image_id, (int, str)):
        rows.note(WRONG_TYPE, f"expected a number or a string, found {_type_name(image_id)}", number, "image_id")
        return
    known = names_by_id.setdefault(image_id, row["image"])
    if known != row["image"]:
        why = f"{image_id!r} is the id of {known!r} already, here of {row['image']!r}"
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


def _syntax_error(message: str, text: str, position: int, path) -> DataError:
    error = json.JSONDecodeError(message, text, position)
    end = " (the file ends here: truncated?)" if position >= len(text) else ""
    return DataError(f"not valid JSON: {message} at column {error.colno}{end}", path, error.lineno)


def _type_name(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
