"""JSON files that commands leave for each other, read with errors that name the file."""

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
