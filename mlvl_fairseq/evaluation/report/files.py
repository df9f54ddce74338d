"""JSON files of a run, read with errors that name the file and the field."""

import json
from pathlib import Path
from typing import Any, Dict

from mlvl_fairseq.errors import DataError


def read_object(path: Path) -> Dict[str, Any]:
    """A JSON object.

    Raises:
        DataError: it is none.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # JSON or UTF-8
        raise DataError(f"not JSON ({error}); delete it and run the same command again", path) from None
    if not isinstance(value, dict):
        raise DataError(f"expected a JSON object, found a {type(value).__name__}", path)
    return value


def score_in(values: Dict[str, Any], metric: str, path: Path) -> float:
    """A score in %.

    Raises:
        DataError: it is missing, no number, or out of range.
    """
    value = values.get(metric)
    if not _is_number(value) or not 0 <= value <= 100:
        message = f"expected a score in %, found {value!r}; delete the file and evaluate again"
        raise DataError(message, path, field=metric)
    return float(value)


def amount_in(values: Dict[str, Any], key: str, path: Path) -> float:
    """A number that is not negative, NaN where the key is missing.

    Raises:
        DataError: it is something else.
    """
    if key not in values:
        return float("nan")
    if not _is_number(values[key]) or not values[key] >= 0:
        raise DataError(f"expected a number, found {values[key]!r}", path, field=key)
    return float(values[key])


def text_in(values: Dict[str, Any], key: str, path: Path) -> str:
    """A string.

    Raises:
        DataError: it is missing or something else.
    """
    if not isinstance(values.get(key), str):
        raise DataError(f"expected text, found {values.get(key)!r}", path, field=key)
    return values[key]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
