"""A token embedding that grows with the vocabulary and can train some of its rows without touching the others."""

from dataclasses import dataclass
from typing import Dict, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ExpandableEmbedding(nn.Module):
    """Rows for tokens. As built, all of them train; after :meth:`train_rows` only some do.

    Then ``weight`` is the compact matrix [R, dim] of those rows: gradient, clipping, moments and communication follow R
    and not the vocabulary. The state dict keeps the whole matrix under ``weight`` either way.

    Rows that no training caption uses have no gradient; all that an optimizer does to them is weight decay, the same
    factor for all. :meth:`decay_idle` multiplies these factors up instead of passing over the rows at every update.
    The result is the same but for float rounding.

    Args:
        num_embeddings: rows. dim: columns.
    """

    def __init__(self, num_embeddings: int, dim: int):
        super().__init__()
        self.num_embeddings = num_embeddings
        self.weight = nn.Parameter(torch.empty(num_embeddings, dim))
        nn.init.normal_(self.weight, std=0.02)
        self.rows: Optional[Tensor] = None

    def train_rows(self, rows: Tensor) -> None:
        """Let only `rows` (int64 [R], ascending) train. Call before the optimizer is built."""
        full = self.weight.detach()
        slots = torch.full((self.num_embeddings,), -1, device=full.device)
        slots[rows] = torch.arange(len(rows), device=full.device)
        self.register_buffer("idle_table", full, persistent=False)
        self.register_buffer("slots", slots, persistent=False)
        del self.rows
        self.register_buffer("rows", rows.to(full.device), persistent=False)
        self.register_buffer("idle_decay_bits", _bits(1.0), persistent=False)
        self.weight = nn.Parameter(full[rows].clone(), requires_grad=self.weight.requires_grad)

    def forward(self, tokens: Tensor) -> Tensor:
        """int64 [...] -> [..., dim]. In training mode, every token must be among the trained rows."""
        if self.rows is None:
            return F.embedding(tokens, self.weight)
        slots = self.slots[tokens]
        if self.training:
            return F.embedding(slots, self.weight)
        trained = F.embedding(slots.clamp(min=0), self.weight)
        idle = F.embedding(tokens, self.idle_table) * self._idle_decay.to(self.idle_table.dtype)
        return torch.where((slots >= 0).unsqueeze(-1), trained, idle)

    @property
    def idle_decay(self) -> float:
        """What the rows that do not train have been multiplied with since :meth:`train_rows`."""
        return float(self._idle_decay)

    @property
    def _idle_decay(self) -> Tensor:
        return self.idle_decay_bits.view(torch.float64)

    def decay_idle(self, factor: float) -> None:
        """Multiply the rows that do not train with `factor`, when they are next read; nothing waits for the device."""
        self._idle_decay.mul_(factor)

    def _save_to_state_dict(self, destination, prefix, keep_vars) -> None:
        if self.rows is None:
            return super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + "weight"] = self.idle_table.index_copy(0, self.rows, self.weight.detach())
        if self.idle_decay != 1:
            destination[prefix + "idle_decay_bits"] = self.idle_decay_bits.clone()
            destination[prefix + "trained_rows"] = self.rows.clone()

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, errors):
        if self.rows is None:
            return super()._load_from_state_dict(
                state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, errors
            )
        full = state_dict.get(prefix + "weight")
        if full is None:
            missing_keys.append(prefix + "weight")
        elif full.shape != self.idle_table.shape:
            errors.append(f"{prefix}weight has shape {tuple(full.shape)}, not {tuple(self.idle_table.shape)}")
        else:
            with torch.no_grad():
                self.idle_table.copy_(full)
                self.weight.copy_(full[self.rows.to(full.device)])
                self.idle_decay_bits.copy_(state_dict.get(prefix + "idle_decay_bits", _bits(1.0)))


def apply_idle_decay(state: Dict[str, Tensor], prefix: str, in_place: bool = False) -> None:
    """Carry out the decay that :meth:`ExpandableEmbedding.decay_idle` put off, in a state dict, in place.

    Args:
        state: may hold ``prefix + idle_decay_bits`` and ``prefix + trained_rows``, which are taken out.
        prefix: of the embedding's entries, e.g. ``text.token_embedding.``.
        in_place: whether the weight's memory is overwritten, too.
    """
    bits, rows = state.pop(prefix + "idle_decay_bits", None), state.pop(prefix + "trained_rows", None)
    if bits is not None:
        weight = state[prefix + "weight"]
        trained, factor = weight[rows], float(bits.cpu().view(torch.float64))
        decayed = weight.mul_(factor) if in_place else weight * factor
        state[prefix + "weight"] = decayed.index_copy_(0, rows, trained)


def _bits(value: float) -> Tensor:
    """A float64 as int64: a module's ``half()`` would round a float buffer."""
    return torch.tensor([value], dtype=torch.float64).view(torch.int64)


def grow_rows(weight: Tensor, rows: int, mean: float, std: float, seed: int) -> Tensor:
    """Append rows drawn from N(mean, std^2); the old rows are copied unchanged.

    Args:
        weight: [old rows, d].
        rows: rows of the result.
        mean, std: of the new rows. A negative std means those of **all elements** of `weight` (TEIR's identical
            distribution, Yang et al. 2024, section 3.3); the mean is then taken from there, too.
        seed: of the draw; the same seed and `weight` give the same rows, whatever the device.
    """
    if std < 0:
        mean, std = float(weight.float().mean()), float(weight.float().std())
    generator = torch.Generator().manual_seed(seed)
    new = torch.randn(rows - len(weight), weight.shape[1], generator=generator) * std + mean
    return torch.cat([weight, new.to(weight)])


@dataclass(frozen=True)
class GrowthOptions:
    """How the embedding rows of new tokens are drawn; see :func:`grow_rows`."""

    mean: float = 0.0
    std: float = 0.02
    seed: int = 1

    def grow(self, weight: Tensor, rows: int) -> Tensor:
        return grow_rows(weight, rows, self.mean, self.std, self.seed)
