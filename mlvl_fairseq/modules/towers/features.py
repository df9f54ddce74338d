"""Images that somebody has already encoded: what a frozen network gave for them, a vector each or a grid of states.

These towers have no parameters; the network's projection stands behind them.
"""

from dataclasses import dataclass

from torch import Tensor

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.modules.towers.base import ImageTower, Parts, TowerOutput, register_image_tower

NO_PARTS = Parts(norm=None, dense=None, attention=None, last=None, block=None)


@register_image_tower({"features": {}})
@dataclass(frozen=True)
class FeaturesConfig:
    """Attributes: feature_dim: dimensions of a vector."""

    feature_dim: int = 0

    def build(self) -> "FeaturesTower":
        return FeaturesTower(self.feature_dim)


@register_image_tower({"feature_grid": {}})
@dataclass(frozen=True)
class FeatureGridConfig:
    """Attributes: positions: states of an image. feature_dim: dimensions of each."""

    positions: int = 0
    feature_dim: int = 0

    def build(self) -> "FeatureGridTower":
        return FeatureGridTower(self.positions, self.feature_dim)


class GivenTower(ImageTower):
    """Features of one shape, ``(..., width)``."""

    def __init__(self, *shape: int):
        super().__init__()
        if min(shape) < 1:
            advice = "say how many dimensions the given features have (--image-feature-dim)"
            raise UserError(f"features of shape {shape}: {advice}, or mlvl-prepare --image-features")
        self.feature_shape, self.width = shape, shape[-1]

    @property
    def parts(self) -> Parts:
        return NO_PARTS


class FeaturesTower(GivenTower):
    """The given vectors themselves."""

    def forward(self, images: Tensor) -> TowerOutput:
        self.require_shape(images)
        return TowerOutput(images)


class FeatureGridTower(GivenTower):
    """The given states, and their mean as vector, computed in float32."""

    def forward(self, images: Tensor) -> TowerOutput:
        self.require_shape(images)
        return TowerOutput(images.float().mean(1).to(images.dtype), images if self.keeps_states else None)
