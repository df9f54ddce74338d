"""Prefix tuning (Li and Liang 2021), called P-Tuning in CLL-CLIP: keys and values that every position sees."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.modules.adapters.base import (
    LanguageAdapter,
    UndrawnLinear,
    draw_normal,
    draw_uniform,
    register_adapter,
)
from mlvl_fairseq.modules.block_adapter import BlockAdapter, Prefix


@dataclass
class PrefixOptions:
    prefix_length: int = field(default=30, metadata={"help": "prefix: keys (and values) in front of each layer's own"})
    prefix_hidden: int = field(
        default=512, metadata={"help": "prefix: hidden width of the network that computes keys and values"}
    )


class PrefixNetwork(nn.Module):
    """Keys and values of all layers out of a small table: ``W_2 tanh(W_1 table + b_1) + b_2``."""

    def __init__(self, width: int, layers: int, length: int, hidden: int):
        super().__init__()
        self.table = nn.Parameter(torch.empty(length, width))
        self.hidden = UndrawnLinear(width, hidden)
        self.output = UndrawnLinear(hidden, 2 * layers * width)

    def forward(self) -> Tensor:
        """[length, 2 * layers * width]."""
        return self.output(torch.tanh(self.hidden(self.table)))


class PrefixTable(nn.Module):
    """The keys and values themselves: what is left of a :class:`PrefixNetwork` that trains no more."""

    def __init__(self, width: int, layers: int, length: int):
        super().__init__()
        self.keys_values = nn.Parameter(torch.empty(length, 2 * layers * width))

    def forward(self) -> Tensor:
        return self.keys_values


@register_adapter("prefix", PrefixOptions)
class PrefixAdapter(LanguageAdapter):
    """A prefix of keys and values for each layer and language.

    The current language trains a :class:`PrefixNetwork`, drawn as torch draws embeddings and linear layers. Earlier
    languages keep only its output, an eighteenth of it on ViT-B, which gives the same features.
    """

    def new_part(self, is_current):
        length, hidden = self.options.prefix_length, self.options.prefix_hidden
        if length < 1 or hidden < 1:
            raise UserError(f"--prefix-length {length} and --prefix-hidden {hidden} must be at least 1")
        if is_current:
            return PrefixNetwork(self.shape.width, self.shape.layers, length, hidden)
        return PrefixTable(self.shape.width, self.shape.layers, length)

    def draw(self, part, generator, earlier):
        draw_normal(part.table, 1.0, generator)
        for linear in (part.hidden, part.output):
            bound = linear.in_features**-0.5
            draw_uniform(linear.weight, bound, generator)
            draw_uniform(linear.bias, bound, generator)

    @torch.no_grad()
    def retire(self, tensors):
        network = self.new_part(is_current=True)
        network.load_state_dict(tensors)
        return {"keys_values": network()}

    def blocks(self, part):
        keys_values = part().unflatten(1, (2 * self.shape.layers, self.shape.width)).transpose(0, 1)
        return [
            BlockAdapter(prefix=Prefix(keys_values[2 * layer][None], keys_values[2 * layer + 1][None]))
            for layer in range(self.shape.layers)
        ]
