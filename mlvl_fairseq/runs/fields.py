"""Values in the JSON files of a run, taken out with errors that name the file and the field."""

import math
from pathlib import Path
from typing import Any, Dict

from mlvl_fairseq.errors import DataError


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


def number_in(values: Dict[str, Any], key: str, path: Path) -> float:
    """A finite number.

    Raises:
        DataError: it is missing or something else.
    """
    value = values.get(key)
    if not _is_number(value) or not math.isfinite(value):
        raise DataError(f"expected a number, found {value!r}; delete the file and evaluate again", path, field=key)
    return float(value)


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
