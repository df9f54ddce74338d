"""Swin (Liu et al. 2021), torchvision's modules; with the adapters of LilT (Khan et al. 2023, section 3)."""

from dataclasses import dataclass, field
from typing import Optional, Tuple

from torch import Tensor

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.modules.towers.base import ImageTower, Parts, TowerOutput, register_image_tower


@register_image_tower(
    {
        "swin_nano": {"image_size": 64, "width": 32, "layers": (2, 2, 2), "heads": (1, 2, 4), "window": 4},
        "swin_tiny": {},
        "swin_small": {"layers": (2, 2, 18, 2)},
        "swin_base": {"width": 128, "layers": (2, 2, 18, 2), "heads": (4, 8, 16, 32)},
    }
)
@dataclass(frozen=True)
class SwinConfig:
    """Dimensions of a Swin.

    Attributes:
        image_size, patch_size: height and width in pixels. width: of the first stage, doubled by each later one.
        layers, heads: blocks and attention heads of each stage. window: height and width of a window in patches.
        drop_path: how often training leaves a branch of the last block out, of the blocks before it linearly less often
            (stochastic depth, Huang et al. 2016).
    """

    image_size: int = 224
    patch_size: int = 4
    width: int = 96
    layers: Tuple[int, ...] = (2, 2, 6, 2)
    heads: Tuple[int, ...] = (3, 6, 12, 24)
    window: int = 7
    drop_path: float = field(default=0.0, repr=False)

    def build(self) -> "SwinTower":
        return SwinTower(self)


class SwinTower(ImageTower):
    """Stages of blocks on windows of patches; the vector is the mean of the last, normalised states.

    Parameters are named as in torchvision's files. With `keeps_states` the states are the last stage's grid, row by
    row, [B, N, width].
    """

    def __init__(self, config: SwinConfig):
        super().__init__()
        self._require_sizes(config)
        from mlvl_fairseq.modules import swin_blocks  # torchvision's models take two seconds to import

        self.config, self.image_size = config, config.image_size
        self.reduction: Optional[int] = None
        self.features, self.norm = swin_blocks.stages(config)
        self.width = self.norm.normalized_shape[0]

    @staticmethod
    def _require_sizes(config: SwinConfig) -> None:
        if config.patch_size < 1 or config.image_size < 1 or config.image_size % config.patch_size:
            raise UserError(f"image size {config.image_size} is not a multiple of the patch size {config.patch_size}")
        if not 0 <= config.drop_path < 1:
            raise UserError(f"drop path {config.drop_path:g} is no probability below 1")
        if len(config.layers) != len(config.heads) or min(config.layers, default=0) < 1 or sum(config.layers) < 2:
            message = f"layers {config.layers} and heads {config.heads}: each stage needs some of both"
            raise UserError(message + ", and a Swin has two blocks at least")
        for stage, heads in enumerate(config.heads):
            if heads < 1 or (config.width * 2**stage) % heads:
                message = f"width {config.width * 2**stage} is not a multiple of the number of attention heads {heads}"
                raise UserError(message)

    @property
    def parts(self) -> Parts:
        last = rf"^features\.{len(self.features) - 1}\.{len(self.features[-1]) - 1}\.|^norm\."
        # The patch embedding's normalisation has a number for a name; blocks have one in their stage only.
        return Parts(norm=r"norm|^features\.0\.2\.", dense="mlp", attention="attn", last=last, block=None)

    def insert_adapters(self, reduction: int) -> None:
        self.reduction = reduction
        for stage in self.features[1::2]:  # the patch embedding and what merges patches are between them
            for block in stage:
                block.insert_adapters(reduction)

    def append_block(self) -> None:
        block = self.features[-1][-1].new_one()
        if self.reduction is not None:
            block.insert_adapters(self.reduction)
        self.features[-1].append(block)

    def forward(self, images: Tensor) -> TowerOutput:
        self.require_shape(images)
        grid = self.norm(self.features(images.to(self.norm.weight.dtype)))
        states = grid.flatten(1, 2)
        return TowerOutput(states.mean(1), states if self.keeps_states else None)
