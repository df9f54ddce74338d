"""The table of methods: rows of options that inherit from each other, and the variants of these rows.

A row with a ``title`` goes with every way of training the token embedding that is a row ``cll_clip_with_<variant>``:
``oewc`` is there as ``oewc_with_teir``, too, which inherits from both.
"""

import difflib
import re
from functools import lru_cache
from pathlib import Path
from typing import Any, Dict, List

import yaml

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.runs.folder import ordered_method

TABLE = Path(__file__).with_name("methods.yaml")
PRESETS = ("default", "reference")
BASE = "cll_clip"
_NOT_OPTIONS = ("about", "hidden", "inherit_from", "published_as", "reference", "title", "variant")
_OF_THE_DRIVER = ("protocol",)


@lru_cache(maxsize=1)
def _rows() -> Dict[str, Dict[str, Any]]:
    return with_variants(yaml.safe_load(TABLE.read_text(encoding="utf-8")))


def with_variants(written: Dict[str, Dict[str, Any]]) -> Dict[str, Dict[str, Any]]:
    """The rows of the table and, behind each that has a ``title``, its variants."""
    variants = {name: row for name, row in written.items() if "variant" in row}
    rows: Dict[str, Dict[str, Any]] = {}
    for name, row in written.items():
        rows[name] = row
        for variant, its in variants.items() if "title" in row else ():
            derived = {"about": f"{row['title']} {its['variant']}", "inherit_from": [name, variant]}
            if "published_as" in row and "published_as" in its:
                published = written[BASE]["published_as"]
                derived["published_as"] = row["published_as"] + its["published_as"].removeprefix(published)
            rows[name + variant.removeprefix(BASE)] = derived
    return rows


def list_methods() -> Dict[str, str]:
    """Names and descriptions of the methods that can be run."""
    return {name: row["about"] for name, row in _rows().items() if not row.get("hidden")}


def published_names() -> Dict[str, str]:
    """Name in the published code -> row of the table."""
    return {row["published_as"]: name for name, row in _rows().items() if "published_as" in row}


def method_name(name: str) -> str:
    """Our name of a method, also where `name` is the published one, so that runs of both are compared as one method.

    Raises:
        UserError: no such method, or joined rows do not go together.
    """
    _merged(name, "default")
    return ordered_method("+".join(map(_find, name.split("+"))))


def method_options(name: str, preset: str = "default") -> Dict[str, Any]:
    """The fairseq-train options of a method, inherited ones included: ``{"new_row_std": -1, ...}``.

    Args:
        name: a row of the table, by our name or the published one; several joined by + work together.
        preset: ``reference``: with the quirks that shaped the published numbers.

    Raises:
        UserError: no such method or preset, or joined rows contradict each other.
    """
    if preset not in PRESETS:
        raise UserError(f"no preset '{preset}'; there are: {', '.join(PRESETS)}")
    return {key: value for key, value in _merged(name, preset).items() if key not in _OF_THE_DRIVER}


def method_protocol(name: str) -> str:
    """How a method learns its languages: a name in :data:`mlvl_fairseq.runs.protocols.PROTOCOLS`."""
    return _merged(name, "default").get("protocol", "sequence")


def _merged(name: str, preset: str) -> Dict[str, Any]:
    """The options of one row, or of several that go together. Raises UserError: they do not."""
    names = [_find(part) for part in name.split("+")]
    for part in names:
        if names.count(part) > 1:
            raise UserError(f"{name}: {part} is there more than once; leave it out")
    parts = {part: _resolve(part, preset) for part in names}
    options: Dict[str, Any] = {}
    for part, own in parts.items():
        for key, value in own.items():
            if options.setdefault(key, value) != value:
                option = f"--{key.replace('_', '-')}"
                raise UserError(f"{name}: {part} needs {option} {value}, another of them {options[key]}")
    for part, own in parts.items():
        others = {key for other, its in parts.items() if other != part for key in its}
        if len(parts) > 1 and own.keys() <= others:
            raise UserError(f"{name}: {part} adds nothing to the others; leave it out")
    return options


def _find(name: str) -> str:
    """The row behind a name. Raises UserError: there is none."""
    if name in list_methods():
        return name
    if name in published_names():
        return published_names()[name]
    close = difflib.get_close_matches(name.lower().replace("-", "_"), list_methods(), n=3)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    raise UserError(f"no method '{name}': {hint}mlvl-cll --list-methods shows what there is")


def _resolve(name: str, preset: str) -> Dict[str, Any]:
    row = _rows()[name]
    parents = row.get("inherit_from", [])
    options: Dict[str, Any] = {}
    for parent in [parents] if isinstance(parents, str) else parents:
        options.update(_resolve(parent, preset))
    options.update({key: value for key, value in row.items() if key not in _NOT_OPTIONS})
    if preset == "reference":
        options.update(row.get("reference", {}))
    return options


def as_arguments(options: Dict[str, Any], **values: str) -> List[str]:
    """``{"new_row_std": -1}`` to ``["--new-row-std=-1"]``; True is a flag; ``{languages}`` stands for what `values` has
    of that name, any other brace for itself: a value may be a path."""

    def argument(key: str, value) -> str:
        flag = f"--{key.replace('_', '-')}"
        return flag if value is True else f"{flag}={_filled(str(value), values)}"

    return [argument(key, value) for key, value in options.items() if value is not False]


def _filled(text: str, values: Dict[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda name: values.get(name[1], name[0]), text)
