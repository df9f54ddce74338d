"""The vision transformer (Dosovitskiy et al. 2021) as DeiT (Touvron et al. 2021) and DINO (Caron et al. 2021) publish
its weights, with the adapters of LilT (Khan et al. 2023, section 3)."""

from dataclasses import dataclass, field
from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.modules.adapters.layerwise import LayerwiseAdapter
from mlvl_fairseq.modules.attention import attention
from mlvl_fairseq.modules.towers.base import LOCAL_LAYERS, ImageTower, Parts, TowerOutput, register_image_tower

EPS = 1e-6  # of layer normalisation
STD = 0.02  # of fresh weights; published as a normal distribution cut at 100 standard deviations
MLP_RATIO = 4


@register_image_tower(
    {
        "vit_tiny": {"width": 192, "heads": 3},
        "vit_small": {"width": 384, "heads": 6},
        "vit_base": {},
        "vit_base_dino": {},  # the same tower, in another file
    }
)
@dataclass(frozen=True)
class ViTConfig:
    """Dimensions of a vision transformer.

    Attributes:
        image_size, patch_size: height and width in pixels. width: of the states. layers: blocks. heads: of attention.
        local_layers: of the blocks, so many of the last, as many as there are, look at nothing but a region, see
            :meth:`ImageTower.regions`.
    """

    image_size: int = 256
    patch_size: int = 16
    width: int = 768
    layers: int = 12
    heads: int = 12
    local_layers: int = field(default=LOCAL_LAYERS, repr=False)

    def build(self) -> "ViTTower":
        return ViTTower(self)

    @property
    def grid(self) -> int:
        """Patches along a side of a picture.

        Raises:
            UserError: no whole number of patches.
        """
        if self.patch_size < 1 or self.image_size < 1 or self.image_size % self.patch_size:
            raise UserError(f"image size {self.image_size} is not a multiple of the patch size {self.patch_size}")
        return self.image_size // self.patch_size


class ViTTower(ImageTower):
    """Patches and a class token through pre-norm blocks; the class token's state is the vector.

    Parameters are named as in DeiT's files. With `keeps_states` the states are those of all tokens, the class token's
    first, [B, 1 + N, width]; without, the last block computes no more than the class token's.
    """

    has_class_token = True

    def __init__(self, config: ViTConfig):
        super().__init__()
        self.config, self.width, self.image_size = config, config.width, config.image_size
        self.reduction: Optional[int] = None
        self.cls_token = nn.Parameter(torch.empty(1, 1, config.width))
        self.pos_embed = nn.Parameter(torch.empty(1, self.positions(config.grid), config.width))
        self.patch_embed = PatchEmbedding(config.patch_size, config.width)
        self.blocks = nn.ModuleList(self.new_block() for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width, eps=EPS)
        for table in (self.cls_token, self.pos_embed):
            nn.init.normal_(table, std=STD)

    @staticmethod
    def positions(grid: int) -> int:
        """Rows of the table of positions for a square of patches: one for each, and the class token's first."""
        return 1 + grid**2

    def new_block(self) -> "Block":
        """A fresh block, without adapters."""
        return Block(self.config.width, self.config.heads)

    @property
    def parts(self) -> Parts:
        last = rf"^blocks\.{len(self.blocks) - 1}\.|^norm\."
        return Parts(norm="norm", dense="mlp", attention="attn", last=last, block=r"^blocks\.{}\.", bias="bias")

    def insert_adapters(self, reduction: int) -> None:
        self.reduction = reduction
        for block in self.blocks:
            block.insert_adapters(reduction)

    def append_block(self) -> None:
        block = self.new_block()
        if self.reduction is not None:
            block.insert_adapters(self.reduction)
        self.blocks.append(block)

    def embed(self, patches: Tensor) -> Tensor:
        """States of patches [B, N, width] -> what the first block takes, [B, 1 + N, width]."""
        return (
            torch.cat([self.cls_token.to(patches.dtype).expand(patches.shape[0], 1, -1), patches], 1) + self.pos_embed
        )

    def forward(self, images: Tensor) -> TowerOutput:
        self.require_shape(images)
        x = self.embed(self.patch_embed(images))
        last = len(self.blocks) - 1
        for number, block in enumerate(self.blocks):
            x = block(x, first_only=number == last and not self.keeps_states)
        x = self.norm(x)
        return TowerOutput(x[:, 0], x if self.keeps_states else None)

    def regions(self, images: Tensor, image_of: Tensor, patches: Tensor) -> Tuple[TowerOutput, TowerOutput]:
        """See :class:`ImageTower`; in the last `local_layers` blocks a region sees its own patches and its class token
        only."""
        self.require_shape(images)
        x, seen = self.embed(self.patch_embed(images)), None
        first_local = self.first_local(len(self.blocks), self.config.local_layers)
        for number, block in enumerate(self.blocks):
            if number == first_local:
                x, seen = self.side_by_side(x, image_of, patches)
            x = block(x, seen=seen)
        return self.apart(self.norm(x), len(image_of))


class PatchEmbedding(nn.Module):
    """Pictures [B, 3, H, W] -> [B, N, width], row by row."""

    def __init__(self, patch_size: int, width: int):
        super().__init__()
        self.proj = nn.Conv2d(3, width, kernel_size=patch_size, stride=patch_size)

    def forward(self, images: Tensor) -> Tensor:
        # The cast matters where the trainer has turned the parameters, but not the pixels, into half precision.
        return self.proj(images.to(self.proj.weight.dtype)).flatten(2).transpose(1, 2)


class Block(nn.Module):
    """``x + attn(LN(a_1(x)))``, then ``x + mlp(LN(a_2(x)))``, [B, T, width] -> [B, T, width].

    The adapters a_1, a_2 stand on the inputs of the two branches; without, they are the identity. With `first_only`
    nothing but the first token's state is computed: [B, 1, width]. `seen`: bool [B, 1, 1, T], tokens that are looked
    at; None: all.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=EPS)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=EPS)
        self.mlp = MLP(width, MLP_RATIO * width)
        self.adapter1, self.adapter2 = nn.Identity(), nn.Identity()

    def insert_adapters(self, reduction: int) -> None:
        """Fresh ones, see :meth:`Tower.insert_adapters`."""
        width = self.norm1.normalized_shape[0]
        self.adapter1, self.adapter2 = LayerwiseAdapter(width, reduction), LayerwiseAdapter(width, reduction)

    def attention_branch(self, x: Tensor, first_only: bool, seen: Optional[Tensor]) -> Tensor:
        return self.attn(self.norm1(self.adapter1(x)), first_only, seen)

    def mlp_branch(self, x: Tensor) -> Tensor:
        return self.mlp(self.norm2(self.adapter2(x)))

    def forward(self, x: Tensor, first_only: bool = False, seen: Optional[Tensor] = None) -> Tensor:
        x = (x[:, :1] if first_only else x) + self.attention_branch(x, first_only, seen)
        return x + self.mlp_branch(x)


class Attention(nn.Module):
    """Self-attention, torch's fused one; one matrix makes queries, keys and values, in this order."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        if heads < 1 or width % heads:
            raise UserError(f"width {width} is not a multiple of the number of attention heads {heads}")
        self.heads = heads
        self.qkv = _linear(width, 3 * width)
        self.proj = _linear(width, width)

    def forward(self, x: Tensor, first_only: bool = False, seen: Optional[Tensor] = None) -> Tensor:
        """[B, T, width] -> [B, T, width]; with `first_only` [B, 1, width]. `seen`: see :class:`Block`."""
        if first_only:
            weight, bias, width = self.qkv.weight, self.qkv.bias, x.shape[-1]
            query = F.linear(x[:, :1], weight[:width], bias[:width])
            key, value = F.linear(x, weight[width:], bias[width:]).chunk(2, dim=-1)
        else:
            query, key, value = self.qkv(x).chunk(3, dim=-1)
        query, key, value = (self._split_heads(part) for part in (query, key, value))
        mixed = attention(query, key, value, seen)
        return self.proj(mixed.transpose(1, 2).flatten(2))

    def _split_heads(self, x: Tensor) -> Tensor:
        """``[B, T, width] -> [B, heads, T, width / heads]``."""
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class MLP(nn.Module):
    """Feed-forward half of a block, with the exact GELU."""

    def __init__(self, width: int, inner: int):
        super().__init__()
        self.fc1, self.fc2 = _linear(width, inner), _linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


def _linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=STD)
    nn.init.zeros_(layer.bias)
    return layer
