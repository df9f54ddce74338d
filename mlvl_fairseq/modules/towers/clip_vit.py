"""CLIP's vision transformer as one of two towers: its class token's state, without the projection to CLIP's space."""

from dataclasses import dataclass, field
from typing import Any, Dict, Tuple

from torch import Tensor

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.modules.towers.base import LOCAL_LAYERS, ImageTower, TowerOutput, register_image_tower
from mlvl_fairseq.modules.towers.clip_vision import CLIPVisionTower, VisionConfig
from mlvl_fairseq.modules.transformer import ACTIVATIONS


@register_image_tower(
    {
        "clip_vit_b32": {},
        "clip_vit_b16": {"patch_size": 16},
        "clip_vit_l14": {"patch_size": 14, "width": 1024, "layers": 24, "heads": 16},
    }
)
@dataclass(frozen=True)
class ClipViTConfig:
    """Dimensions of CLIP's vision transformer.

    Attributes:
        image_size, patch_size: height and width in pixels. width: of the states. layers: blocks. heads: of attention.
        activation: of the feed-forward halves, ``quick_gelu`` (OpenAI's) or ``gelu`` (most models of open_clip).
        local_layers: see :class:`mlvl_fairseq.modules.towers.vit.ViTConfig`.
    """

    image_size: int = 224
    patch_size: int = 32
    width: int = 768
    layers: int = 12
    heads: int = 12
    activation: str = "quick_gelu"
    local_layers: int = field(default=LOCAL_LAYERS, repr=False)

    def build(self) -> "ClipViTTower":
        if self.activation not in ACTIVATIONS:
            raise UserError(f"there is no activation '{self.activation}': there are {', '.join(ACTIVATIONS)}")
        try:
            return ClipViTTower(self)
        except ValueError as error:  # a width or an image that cannot be divided
            raise UserError(str(error)) from None


class ClipViTTower(CLIPVisionTower, ImageTower):
    """The tower of `networks/clip.py`; parameters have the same names, but there is no ``proj``.

    With `keeps_states` the states are those of all tokens after the last normalisation, the class token's first.
    """

    has_class_token = True

    def __init__(self, config: ClipViTConfig):
        super().__init__(**_dimensions(config), embed_dim=None)
        self.config = config

    @property
    def vision_config(self) -> VisionConfig:
        """The dimensions as :mod:`mlvl_fairseq.checkpoints.clip` has them."""
        return VisionConfig(**_dimensions(self.config), embed_dim=None)

    def forward(self, images: Tensor) -> TowerOutput:
        if not self.keeps_states:
            return TowerOutput(self.pool(images))
        states = self.ln_post(self.transformer(self.embed(images)))
        return TowerOutput(states[:, 0], states)

    def regions(self, images: Tensor, image_of: Tensor, patches: Tensor) -> Tuple[TowerOutput, TowerOutput]:
        """See :meth:`mlvl_fairseq.modules.towers.vit.ViTTower.regions`."""
        x, seen = self.embed(images), None
        blocks = self.transformer.resblocks
        first_local = self.first_local(len(blocks), self.config.local_layers)
        for number, block in enumerate(blocks):
            if number == first_local:
                x, seen = self.side_by_side(x, image_of, patches)
            x = block(x, seen=seen)
        return self.apart(self.ln_post(x), len(image_of))


def _dimensions(config: ClipViTConfig) -> Dict[str, Any]:
    """The arguments of :class:`CLIPVisionTower`."""
    return {name: value for name, value in vars(config).items() if name != "local_layers"}
