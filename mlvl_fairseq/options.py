"""Options that belong to plugged-in parts: each part brings a dataclass, a task's or model's config is their union."""

import math
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Iterable, Type

from mlvl_fairseq.errors import UserError

STARTS = "starts"  # in the metadata of options that name what training starts from


def with_options(base: type, parts: Iterable[type]) -> type:
    """A dataclass with the fields of `base` and of all `parts`, under the name of `base`.

    Raises:
        UserError: two of them have a field of the same name.
    """
    parts = tuple(parts)
    owners = {}
    for part in (base, *parts):
        for option in fields(part):
            if owners.setdefault(option.name, part) is not part:
                raise UserError(
                    f"option '{option.name}' is in {owners[option.name].__name__} and in {part.__name__}: rename one"
                )
    bases = (*reversed(parts), base)  # a dataclass lists the fields of its last base first
    return dataclass(type(base.__name__, bases, {"__module__": base.__module__, "__doc__": base.__doc__}))


def weights_option(help: str):
    """A field for the weights that training starts from, a file or folder; None: from none."""
    return field(default=None, metadata={"help": help, STARTS: True})


def choice(name: str, *values: str) -> Type[StrEnum]:
    """A type for options with a few values, each a string; the first is the default by convention. It needs no fairseq,
    whose ``ChoiceEnum`` does the same."""
    return StrEnum(name, {value: value for value in values})


def check_number(cfg, option: str, least: float = 0.0, most: float = math.inf, above: bool = False) -> None:
    """Check the value of an option.

    Args:
        cfg: options. option: name of a field. least: smallest value, `above`: it has to be larger. most: largest.

    Raises:
        UserError: its value is not within these, or no finite number.
    """
    value = float(getattr(cfg, option))
    if not math.isfinite(value) or value < least or value > most or (above and value == least):
        bounds = f"a number above {least:g}" if above else f"a number of at least {least:g}"
        bounds += f" and at most {most:g}" if most < math.inf else ""
        raise UserError(f"--{option.replace('_', '-')} {value:g} is not {bounds}")


def refuse_reference(value: str, name: str) -> None:
    """Check that a path or another text can be a value of fairseq's configuration.

    Args:
        name: of the option, for the message.

    Raises:
        UserError: OmegaConf reads a part of it as a reference to another option, or Hydra its backslashes as escapes.
    """
    if "${" in value or "\\'" in value or value.endswith("\\"):
        raise UserError(
            f"{name} {value!r}: in fairseq's configuration ${{ begins a reference, a backslash before a quote or at "
            "its end is an escape; choose a path without"
        )
