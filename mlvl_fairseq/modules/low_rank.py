"""LoRA (Hu et al. 2022) on layers that are there already: found by name, and merged into their weights again.

A layer becomes one of a subclass, as under `torch.nn.utils.parametrize`, but keeps the names of its parameters, so that
weights of public files load as they come. The update is new parameters beside them, ``<layer>.lora.{down,up}``.
"""

import math
import re
from typing import Dict, List

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlvl_fairseq.errors import NoPlaceError, UserError
from mlvl_fairseq.modules.transformer import MultiheadSelfAttention

PATTERN = r"\.lora\.(down|up)$"


class LowRank(nn.Module):
    """``(alpha / r) x A^T B^T``; [..., in] -> [..., out]. Not yet drawn.

    Args:
        inner, outer: in and out. rank: r. alpha: numerator of the scale.

    Attributes:
        down: A [r, in]. up: B [out, r].
    """

    def __init__(self, inner: int, outer: int, rank: int, alpha: float):
        super().__init__()
        self.scale = alpha / rank
        self.down = nn.Parameter(torch.empty(rank, inner))
        self.up = nn.Parameter(torch.empty(outer, rank))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.linear(x, self.down), self.up) * self.scale


class WeightUpdate(LowRank):
    """``(alpha / r) B A``, which is added to a weight [out, in]; zero at first, A from U(-1/sqrt(in), 1/sqrt(in)).

    Args:
        weight: [out, in], for its shape and device. rank, alpha: see :class:`LowRank`.
    """

    def __init__(self, weight: Tensor, rank: int, alpha: float):
        outer, inner = weight.shape
        with weight.device:
            super().__init__(inner, outer, rank, alpha)
        nn.init.zeros_(self.up)
        nn.init.uniform_(self.down, -1 / math.sqrt(inner), 1 / math.sqrt(inner))

    def matrix(self) -> Tensor:
        """[out, in]."""
        return self.up @ self.down * self.scale


class LoraLinear(nn.Linear):
    """A linear layer with an update. Whoever reads its ``weight`` gets the sum; as a module it costs two thin products
    and no gradient of the whole matrix."""

    changed = "weight"

    @property
    def weight(self) -> Tensor:
        return self._parameters["weight"] + self.lora.matrix()

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self._parameters["weight"], self.bias) + self.lora(x)


class LoraSelfAttention(MultiheadSelfAttention):
    """CLIP's attention with an update of its fused projections of queries, keys and values [3 width, width]."""

    changed = "in_proj_weight"

    @property
    def in_proj_weight(self) -> Tensor:
        return self._parameters["in_proj_weight"] + self.lora.matrix()


KINDS: Dict[type, type] = {nn.Linear: LoraLinear, MultiheadSelfAttention: LoraSelfAttention}


def insert_lora(module: nn.Module, pattern: str, rank: int, alpha: float) -> List[str]:
    """Give layers an update.

    Args:
        module: changed in place. pattern: regular expression of the names of weights, e.g. ``query.weight``.
        rank, alpha: see :class:`WeightUpdate`.

    Returns:
        names of the changed weights.

    Raises:
        NoPlaceError: there is no such layer. UserError: no such rank, or no such expression.
    """
    if rank < 1:
        raise UserError(f"--lora-rank {rank} is less than 1")
    try:
        wanted = re.compile(pattern)
    except re.error as error:
        raise UserError(f"--lora-targets {pattern} is no regular expression: {error}") from None
    found = []
    for name, layer in list(module.named_modules()):
        kind = KINDS.get(type(layer))
        if kind is not None and wanted.search(f"{name}.{kind.changed}"):
            layer.lora = WeightUpdate(getattr(layer, kind.changed), rank, alpha)
            layer.__class__ = kind
            found.append(f"{name}.{kind.changed}")
    if not found:
        raise NoPlaceError(f"--lora-targets '{pattern}' finds no linear layer in a {type(module).__name__}")
    return found


@torch.no_grad()
def merge_lora(module: nn.Module) -> None:
    """Add all updates to their weights, which are plain layers' again; in place."""
    plain = {kind: before for before, kind in KINDS.items()}
    for layer in list(module.modules()):
        if type(layer) in plain:
            layer._parameters[layer.changed] += layer.lora.matrix()
            del layer.lora
            layer.__class__ = plain[type(layer)]
