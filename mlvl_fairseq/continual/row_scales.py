"""Row scales of TEIR: how much of an update each token embedding takes (Yang et al. 2024, section 3.4).

A scale is one number a vocabulary row, from the row's earlier use `f` and whether the current language uses it.
A new type is one decorated function.
"""

import math
from typing import Callable, Dict, Tuple

import torch
from torch import Tensor

from mlvl_fairseq.errors import UserError

ROW_SCALES: Dict[str, Callable] = {}
_NUMBERED: Dict[str, Callable] = {}


def register_row_scale(name: str, numbered: bool = False):
    """Register ``f(frequencies, current) -> scale``; a `numbered` one takes N from its name, as in ``fixed_10``."""

    def decorate(function):
        (_NUMBERED if numbered else ROW_SCALES)[name] = function
        return function

    return decorate


def row_scale(name: str, frequencies: Tensor, current: Tensor, special: Tuple[int, ...] = ()) -> Tensor:
    """The scale of every vocabulary row.

    Args:
        name: a registered type, e.g. ``current_reciprocal``.
        frequencies: float [V], earlier uses `f` of each row (1 for a row that is new).
        current: bool [V], the row occurs in the current language's training captions.
        special: rows that are never trained (scale 0): BOS, EOS.

    Returns:
        float [V].

    Raises:
        UserError: no such type.
    """
    scale = _find(name)(frequencies, current)
    scale[list(special)] = 0
    return scale


def known_row_scales() -> str:
    return ", ".join([*ROW_SCALES, *(f"{name}_N" for name in _NUMBERED)])


def _find(name: str) -> Callable:
    if name in ROW_SCALES:
        return ROW_SCALES[name]
    base, _, number = name.rpartition("_")
    try:
        function, value = _NUMBERED[base], float(number)
    except (KeyError, ValueError):
        raise UserError(f"no row scale '{name}'; there are: {known_row_scales()}") from None
    return lambda frequencies, current: function(frequencies, current, value)


@register_row_scale("current")
def current_rows(frequencies: Tensor, current: Tensor) -> Tensor:
    """1 for rows of the current language, else 0."""
    return current.float()


@register_row_scale("unique")
def unique_rows(frequencies: Tensor, current: Tensor) -> Tensor:
    """1 for rows that only the current language has used, else 0."""
    return (current & (frequencies == 1)).float()


@register_row_scale("current_reciprocal")
def reciprocal_rows(frequencies: Tensor, current: Tensor) -> Tensor:
    """1 / f for rows of the current language, else 0: TEIR's choice."""
    return current / frequencies


@register_row_scale("current_reciprocal_rescale")
def rescaled_rows(frequencies: Tensor, current: Tensor) -> Tensor:
    """``current_reciprocal`` with its ones multiplied by (number of current rows) / (sum of all scales)."""
    return _rescale_ones(reciprocal_rows(frequencies, current), lambda ratio: ratio)


@register_row_scale("current_reciprocal_rescale_log2")
def log_rescaled_rows(frequencies: Tensor, current: Tensor) -> Tensor:
    """As ``current_reciprocal_rescale`` with log2 of the factor, at least 1."""
    return _rescale_ones(reciprocal_rows(frequencies, current), lambda ratio: math.log2(ratio) if ratio >= 2 else 1.0)


@register_row_scale("fixed", numbered=True)
def fixed_rows(frequencies: Tensor, current: Tensor, number: float) -> Tensor:
    """1 / N for rows used before, 1 for new ones, 0 for rows that are not current."""
    return current * torch.where(frequencies > 1, 1 / number, 1.0)


@register_row_scale("addend", numbered=True)
def addend_rows(frequencies: Tensor, current: Tensor, number: float) -> Tensor:
    """1 / (f + N) for rows used before, 1 for new ones, 0 for rows that are not current."""
    return current * torch.where(frequencies > 1, 1 / (frequencies + number), 1.0)


def _rescale_ones(scale: Tensor, factor: Callable[[float], float]) -> Tensor:
    ratio = float((scale > 0).sum() / scale.sum().clamp(min=1e-12))
    return torch.where(scale == 1, scale * factor(ratio), scale)
