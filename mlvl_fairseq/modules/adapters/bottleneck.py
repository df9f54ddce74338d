"""A bottleneck adapter after the feed-forward half of every block: MLA (Zhang et al. 2022; Houlsby et al. 2019)."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.modules.adapters.base import LanguageAdapter, UndrawnLinear, draw_normal, register_adapter
from mlvl_fairseq.modules.block_adapter import BlockAdapter

STD = 0.02


@dataclass
class BottleneckOptions:
    bottleneck_reduction: int = field(
        default=2, metadata={"help": "bottleneck: the text tower's width divided by the bottleneck's"}
    )


class Bottleneck(nn.Module):
    """``x + W_up ReLU(W_down x + b_down) + b_up``; [..., width] -> [..., width]."""

    def __init__(self, width: int, inner: int):
        super().__init__()
        self.down = UndrawnLinear(width, inner)
        self.up = UndrawnLinear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.up(torch.relu(self.down(x)))


@register_adapter("bottleneck", BottleneckOptions)
class BottleneckAdapter(LanguageAdapter):
    """One :class:`Bottleneck` a block and language. Weights start as N(0, 0.02^2), biases as 0."""

    def new_part(self, is_current):
        width, reduction = self.shape.width, self.options.bottleneck_reduction
        if not 1 <= reduction <= width:
            raise UserError(f"--bottleneck-reduction {reduction} is not between 1 and the text tower's width {width}")
        return nn.ModuleList(Bottleneck(width, width // reduction) for _ in range(self.shape.layers))

    def draw(self, part, generator, earlier):
        for block in part:
            draw_normal(block.down.weight, STD, generator)
            draw_normal(block.up.weight, STD, generator)

    def blocks(self, part):
        return [BlockAdapter(output=block) for block in part]
