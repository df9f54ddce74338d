"""Row scales of TEIR: how much of an update each token embedding takes (Yang et al. 2024, section 3.4).

A scale is one number a vocabulary row, from the row's earlier use `f` and whether the current language uses it.
A new type is one decorated function.
"""

import math
from dataclasses import dataclass, field
from typing import Callable, Dict, Tuple

import torch
from fairseq.dataclass import ChoiceEnum
from torch import Tensor

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.options import Part

ROW_SCALES: Dict[str, Callable] = {}
_NUMBERED: Dict[str, Callable] = {}


@dataclass(frozen=True)
class RowUse:
    """How the languages use the V rows of the vocabulary.

    Attributes:
        current: bool [V], the row occurs in the current language's training captions.
        frequencies: float [V], earlier uses `f` of each row (1 for a row that is new).
        share: float [V], the row's share of all tokens in the current language's training captions.
        earlier_share: float [V], the sum of these shares over the languages before, CLIP's English first.
    """

    current: Tensor
    frequencies: Tensor
    share: Tensor
    earlier_share: Tensor


@dataclass
class GradientScaleOptions:
    grad_scale_type: str = field(
        default="current_reciprocal", metadata={"help": "row scale of the gradient: see docs/methods.md"}
    )
    row_scale_on: ChoiceEnum(["gradient", "update"]) = field(
        default="gradient",
        metadata={
            "help": "gradient: scale before Adam's moments, as published (Adam's normalisation undoes most of it); "
            "update: scale the step after Adam's normalisation"
        },
    )


@dataclass
class DecayScaleOptions:
    weight_decay_scale_type: str = field(default="current", metadata={"help": "row scale of the weight decay"})


ROW_SCALE_PARTS = (
    Part(GradientScaleOptions, lambda cfg: "grad" in str(cfg.regularize), "--regularize grad"),
    Part(DecayScaleOptions, lambda cfg: "decay" in str(cfg.regularize), "--regularize decay"),
)


def register_row_scale(name: str, numbered: bool = False):
    """Register ``f(use: RowUse) -> scale``; a `numbered` one is ``f(use, N)``, with N from its name: ``fixed_10``."""

    def decorate(function):
        (_NUMBERED if numbered else ROW_SCALES)[name] = function
        return function

    return decorate


def row_scale(name: str, use: RowUse, special: Tuple[int, ...] = ()) -> Tensor:
    """The scale of every vocabulary row.

    Args:
        name: a registered type, e.g. ``current_reciprocal``.
        use: how the rows are used.
        special: rows that are never trained (scale 0): BOS, EOS.

    Returns:
        float [V].

    Raises:
        UserError: no such type.
    """
    scale = _find(name)(use)
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
    return lambda use: function(use, value)


@register_row_scale("current")
def current_rows(use: RowUse) -> Tensor:
    """1 for rows of the current language, else 0."""
    return use.current.float()


@register_row_scale("unique")
def unique_rows(use: RowUse) -> Tensor:
    """1 for rows that only the current language has used, else 0."""
    return (use.current & (use.frequencies == 1)).float()


@register_row_scale("current_reciprocal")
def reciprocal_rows(use: RowUse) -> Tensor:
    """1 / f for rows of the current language, else 0: TEIR's choice."""
    return use.current / use.frequencies


@register_row_scale("current_reciprocal_rescale")
def rescaled_rows(use: RowUse) -> Tensor:
    """``current_reciprocal`` with its ones multiplied by (number of current rows) / (sum of all scales)."""
    return _rescale_ones(reciprocal_rows(use), lambda ratio: ratio)


@register_row_scale("current_reciprocal_rescale_log2")
def log_rescaled_rows(use: RowUse) -> Tensor:
    """As ``current_reciprocal_rescale`` with log2 of the factor, at least 1."""
    return _rescale_ones(reciprocal_rows(use), lambda ratio: math.log2(ratio) if ratio >= 2 else 1.0)


@register_row_scale("fixed", numbered=True)
def fixed_rows(use: RowUse, number: float) -> Tensor:
    """1 / N for rows used before, 1 for new ones, 0 for rows that are not current."""
    return use.current * torch.where(use.frequencies > 1, 1 / number, 1.0)


@register_row_scale("addend", numbered=True)
def addend_rows(use: RowUse, number: float) -> Tensor:
    """1 / (f + N) for rows used before, 1 for new ones, 0 for rows that are not current."""
    return use.current * torch.where(use.frequencies > 1, 1 / (use.frequencies + number), 1.0)


@register_row_scale("usage_share")
def usage_share_rows(use: RowUse) -> Tensor:
    """p_t / (p_t + sum of earlier p), p a token's share of a language's training captions: the current language's part
    in all that a row has been used for (beyond the paper)."""
    return use.share / (use.share + use.earlier_share).clamp(min=torch.finfo(torch.float32).tiny) * use.current


def _rescale_ones(scale: Tensor, factor: Callable[[float], float]) -> Tensor:
    ratio = float((scale > 0).sum() / scale.sum().clamp(min=1e-12))
    return torch.where(scale == 1, scale * factor(ratio), scale)
