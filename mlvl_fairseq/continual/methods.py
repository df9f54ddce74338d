"""The table of methods: rows of options that inherit from each other."""

from functools import lru_cache
from pathlib import Path
from typing import Any, Dict, List

import yaml

from mlvl_fairseq.errors import UserError

TABLE = Path(__file__).with_name("methods.yaml")
_NOT_OPTIONS = ("about", "hidden", "inherit_from")


@lru_cache(maxsize=1)
def _rows() -> Dict[str, Dict[str, Any]]:
    return yaml.safe_load(TABLE.read_text(encoding="utf-8"))


def list_methods() -> Dict[str, str]:
    """Names and descriptions of the methods that can be run."""
    return {name: row["about"] for name, row in _rows().items() if not row.get("hidden")}


def method_options(name: str) -> Dict[str, Any]:
    """The fairseq-train options of a method, inherited ones included: ``{"new_row_std": -1, ...}``.

    Raises:
        UserError: no such method.
    """
    if name not in list_methods():
        raise UserError(f"no method '{name}'; there are: {', '.join(list_methods())}")
    return _resolve(name)


def _resolve(name: str) -> Dict[str, Any]:
    row = _rows()[name]
    parents = row.get("inherit_from", [])
    options: Dict[str, Any] = {}
    for parent in [parents] if isinstance(parents, str) else parents:
        options.update(_resolve(parent))
    options.update({key: value for key, value in row.items() if key not in _NOT_OPTIONS})
    return options


def as_arguments(options: Dict[str, Any]) -> List[str]:
    """``{"new_row_std": -1}`` to ``["--new-row-std=-1"]``."""
    return [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]
