"""DeiT-III (Touvron et al. 2022): a vision transformer with scaled branches and no position for the class token."""

from dataclasses import dataclass
from typing import Optional

import torch
from torch import Tensor, nn

from mlvl_fairseq.modules.towers.base import register_image_tower
from mlvl_fairseq.modules.towers.vit import Block, ViTConfig, ViTTower

INITIAL_SCALE = 1e-4  # a fresh block starts close to the identity


@register_image_tower({"deit3_large": {}})
@dataclass(frozen=True)
class DeiT3Config(ViTConfig):
    """Dimensions, see :class:`ViTConfig`."""

    width: int = 1024
    layers: int = 24
    heads: int = 16

    def build(self) -> "DeiT3Tower":
        return DeiT3Tower(self)


class DeiT3Tower(ViTTower):
    """See :class:`ViTTower`; parameters are named as in DeiT-III's files."""

    @staticmethod
    def positions(grid: int) -> int:
        return grid**2

    def new_block(self) -> "ScaledBlock":
        return ScaledBlock(self.config.width, self.config.heads)

    def embed(self, patches: Tensor) -> Tensor:
        patches = patches + self.pos_embed
        return torch.cat([self.cls_token.to(patches.dtype).expand(patches.shape[0], 1, -1), patches], 1)


class ScaledBlock(Block):
    """A block with LayerScale: ``x + gamma_1 * attn(...)``, ``x + gamma_2 * mlp(...)``."""

    def __init__(self, width: int, heads: int):
        super().__init__(width, heads)
        self.gamma_1, self.gamma_2 = (nn.Parameter(torch.full((width,), INITIAL_SCALE)) for _ in range(2))

    def attention_branch(self, x: Tensor, first_only: bool, seen: Optional[Tensor]) -> Tensor:
        return self.gamma_1 * super().attention_branch(x, first_only, seen)

    def mlp_branch(self, x: Tensor) -> Tensor:
        return self.gamma_2 * super().mlp_branch(x)
