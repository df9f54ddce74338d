"""Options that belong to plugged-in parts: each part brings a dataclass, a task's or model's config is their union."""

import math
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Callable, Dict, Iterable, List, Optional, Type

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


@dataclass(frozen=True)
class Part:
    """A part of a run that may be off: nothing reads its options then.

    Attributes:
        options: a dataclass. is_on: does a run with such options have the part? asked_for_by: how it is switched on.
    """

    options: type
    is_on: Callable[[Any], bool]
    asked_for_by: str


def without_effect(parts: Iterable[Part], cfg, usual=None) -> Optional[str]:
    """Which options were given to parts that are off, in one line; None: there are none.

    Args:
        parts: those that read an option together leave it unread only where all of them are off.
        cfg: all options. usual: an object with those that nobody gave; what it lacks has its default.
    """
    parts = tuple(parts)
    read = {option.name for part in parts if part.is_on(cfg) for option in fields(part.options)}
    unread: Dict[str, List[str]] = {}
    for part in parts:
        for option in fields(part.options):
            default = getattr(usual, option.name, option.default)
            value = getattr(cfg, option.name, default)
            if option.name not in read and value != default and str(value) != str(default):
                unread.setdefault(f"--{option.name.replace('_', '-')} {value}", []).append(part.asked_for_by)
    told = [f"{given} (only with {' or '.join(dict.fromkeys(switches))})" for given, switches in unread.items()]
    return f"{len(told)} of the options given without effect: {', '.join(told)}" if told else None


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
