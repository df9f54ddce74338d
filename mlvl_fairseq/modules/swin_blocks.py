"""The blocks of a Swin: torchvision's, with a place for adapters."""

from functools import partial
from typing import Tuple

from torch import Tensor, nn
from torchvision.models.swin_transformer import SwinTransformer, SwinTransformerBlock

from mlvl_fairseq.modules.adapters.layerwise import STD, LayerwiseAdapter

EPS = 1e-5  # of layer normalisation


def stages(config) -> Tuple[nn.Sequential, nn.LayerNorm]:
    """Pictures to the last stage's grid, and the normalisation behind it, without a classifier.

    Args:
        config: :class:`mlvl_fairseq.modules.towers.swin.SwinConfig`.
    """
    sizes = [config.patch_size] * 2, config.width, list(config.layers), list(config.heads), [config.window] * 2
    whole = SwinTransformer(*sizes, stochastic_depth_prob=config.drop_path, num_classes=1, block=AdaptedBlock)
    return whole.features, whole.norm


class AdaptedBlock(SwinTransformerBlock):
    """A block with adapters on the inputs of its branches, the identity where none are inserted."""

    def __init__(self, width: int, heads: int, **options):
        super().__init__(width, heads, **options)
        self.adapter1, self.adapter2 = nn.Identity(), nn.Identity()

    def insert_adapters(self, reduction: int) -> None:
        """Fresh ones of bottleneck ``width // reduction``, in the place of those that there are."""
        width = self.norm1.normalized_shape[0]
        self.adapter1, self.adapter2 = LayerwiseAdapter(width, reduction), LayerwiseAdapter(width, reduction)

    def new_one(self) -> "AdaptedBlock":
        """What can follow this block: one without adapters, its windows shifted if this one's are not."""
        attention, window = self.attn, self.attn.window_size
        shift = [0 if own else size // 2 for own, size in zip(attention.shift_size, window)]
        norm = partial(nn.LayerNorm, eps=EPS)
        block = AdaptedBlock(
            self.norm1.normalized_shape[0],
            attention.num_heads,
            window_size=window,
            shift_size=shift,
            norm_layer=norm,
            stochastic_depth_prob=self.stochastic_depth.p,
        )
        for module in block.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=STD)
                nn.init.zeros_(module.bias)
        return block

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.stochastic_depth(self.attn(self.norm1(self.adapter1(x))))
        return x + self.stochastic_depth(self.mlp(self.norm2(self.adapter2(x))))
