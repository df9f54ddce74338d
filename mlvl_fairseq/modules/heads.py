"""What stands on top of towers: a head for images that somebody has already encoded, and the learned temperature."""

import math
from dataclasses import dataclass

import torch
import torch.nn as nn

from mlvl_fairseq.modules.transformer import LayerNorm

MAX_LOGIT_SCALE = math.log(100)  # CLIP's bound on the inverse temperature
INITIAL_TEMPERATURE = 0.07


def new_logit_scale() -> nn.Parameter:
    """Logarithm of the inverse temperature at the start of training (Radford et al. 2021)."""
    return nn.Parameter(torch.tensor(math.log(1 / INITIAL_TEMPERATURE)))


def temperature(logit_scale: torch.Tensor) -> torch.Tensor:
    """Scalar that divides cosines, at least 0.01."""
    return (-logit_scale.clamp(max=MAX_LOGIT_SCALE)).exp()


@dataclass(frozen=True)
class HeadConfig:
    """Dimensions of a head on given features; the fields are the arguments of :class:`FeatureHead`."""

    input_dim: int
    width: int
    embed_dim: int
    dropout: float = 0.0

    def build(self) -> "FeatureHead":
        return FeatureHead(**vars(self))


class FeatureHead(nn.Module):
    """Two-layer perceptron from given features to the space shared with text.

    Args:
        input_dim: dimension of the given features.
        width: hidden dimension.
        embed_dim: dimension shared with the text tower.
        dropout: probability of dropping a normalised input feature while training.
    """

    def __init__(self, input_dim: int, width: int, embed_dim: int, dropout: float = 0.0):
        super().__init__()
        self.ln_pre = LayerNorm(input_dim)
        self.dropout = nn.Dropout(dropout)
        self.c_fc = nn.Linear(input_dim, width)
        self.gelu = nn.GELU()
        self.proj = nn.Linear(width, embed_dim, bias=False)

    @property
    def input_dim(self) -> int:
        return self.ln_pre.normalized_shape[0]

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[B, input_dim] -> [B, embed_dim], not normalised."""
        hidden = self.dropout(self.ln_pre(features.to(self.c_fc.weight.dtype)))
        return self.proj(self.gelu(self.c_fc(hidden)))
