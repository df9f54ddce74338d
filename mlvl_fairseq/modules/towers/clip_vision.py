"""CLIP's vision transformer (Radford et al. 2021; Dosovitskiy et al. 2021)."""

from dataclasses import dataclass
from functools import partial
from typing import Optional

import torch
import torch.nn as nn

from mlvl_fairseq.modules.adapters.layerwise import LayerwiseAdapter
from mlvl_fairseq.modules.towers.base import Parts, Tower
from mlvl_fairseq.modules.transformer import LayerNorm, Transformer


@dataclass(frozen=True)
class VisionConfig:
    """Dimensions of an image tower; the fields are the arguments of :class:`CLIPVisionTower`."""

    image_size: int
    patch_size: int
    width: int
    layers: int
    heads: int
    embed_dim: Optional[int]
    mlp_width: Optional[int] = None  # 4 * width
    activation: str = "quick_gelu"

    def __post_init__(self):
        if self.mlp_width is None:
            object.__setattr__(self, "mlp_width", 4 * self.width)

    def build(self) -> "CLIPVisionTower":
        return CLIPVisionTower(**vars(self))


class CLIPVisionTower(Tower):
    """Vision transformer pooled at its class token; parameters are named as in `clip.model.VisionTransformer`.

    Args:
        image_size: height and width of the input in pixels, a multiple of ``patch_size``.
        patch_size: height and width of a patch in pixels.
        width: model dimension.
        layers: number of transformer blocks.
        heads: attention heads (CLIP: ``width // 64``).
        embed_dim: dimension shared with the text tower; None: there is no projection to it.
        mlp_width: inner dimension of the feed-forward halves; ``4 * width`` when not given.
        activation: of the feed-forward halves, ``quick_gelu`` or ``gelu``.
    """

    def __init__(
        self,
        image_size: int,
        patch_size: int,
        width: int,
        layers: int,
        heads: int,
        embed_dim: Optional[int],
        mlp_width: Optional[int] = None,
        activation: str = "quick_gelu",
    ):
        super().__init__()
        if image_size % patch_size:
            raise ValueError(f"image size {image_size} is not a multiple of the patch size {patch_size}")
        self.image_size, self.width = image_size, width
        std = width**-0.5
        self.conv1 = nn.Conv2d(3, width, kernel_size=patch_size, stride=patch_size, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty((image_size // patch_size) ** 2 + 1, width))
        self.ln_pre = LayerNorm(width)
        self.transformer = Transformer(width, layers, heads, mlp_width, activation=activation)
        self.ln_post = LayerNorm(width)
        self.proj = None if embed_dim is None else nn.Parameter(torch.empty(width, embed_dim))
        for parameter in (self.class_embedding, self.positional_embedding, self.proj):
            if parameter is not None:
                nn.init.normal_(parameter, std=std)

    @property
    def parts(self) -> Parts:
        return self.transformer.parts(r"^ln_post\.")

    def insert_adapters(self, reduction: int) -> None:
        self.transformer.insert_adapters(partial(LayerwiseAdapter, self.width, reduction))

    def append_block(self) -> None:
        self.transformer.append_block()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Encode images.

        Args:
            images: ``[B, 3, image_size, image_size]`` normalised pixels.

        Returns:
            ``[B, embed_dim]`` features, not normalised.

        Raises:
            ValueError: if the images have another size.
        """
        return self.pool(images) @ self.proj

    def pool(self, images: torch.Tensor) -> torch.Tensor:
        """The class token's last state ``[B, width]``, of which the features are a projection."""
        x = self.transformer(self.embed(images), at=images.new_zeros(images.shape[0], dtype=torch.long))
        return self.ln_post(x)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """What the first block takes, ``[B, 1 + N, width]``, the class token first."""
        if images.shape[1:] != (3, self.image_size, self.image_size):
            raise ValueError(
                f"images of shape {tuple(images.shape[1:])} given to an image tower for "
                f"(3, {self.image_size}, {self.image_size})"
            )
        # The cast matters where the trainer has turned the parameters, but not the pixels, into half precision.
        patches = self.conv1(images.to(self.conv1.weight.dtype)).flatten(2).transpose(1, 2)
        class_token = self.class_embedding.to(patches.dtype).expand(images.shape[0], 1, -1)
        return self.ln_pre(torch.cat([class_token, patches], dim=1) + self.positional_embedding)
