"""What stands on top of towers: heads, and the learned temperature."""

import math
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F

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


class MlpHead(nn.Sequential):
    """Two layers from states [..., width] to `outputs` numbers, as CCLM's heads are (Zeng et al. 2023)."""

    def __init__(self, width: int, outputs: int):
        super().__init__(nn.Linear(width, 2 * width), nn.LayerNorm(2 * width), nn.GELU(), nn.Linear(2 * width, outputs))


class LanguageModelHead(nn.Module):
    """BERT's head for masked tokens. Its last map is tied to the embedding of words, which is therefore an argument."""

    def __init__(self, width: int, vocab_size: int, norm_eps: float):
        super().__init__()
        self.dense, self.LayerNorm = nn.Linear(width, width), nn.LayerNorm(width, eps=norm_eps)
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def hidden(self, states: torch.Tensor) -> torch.Tensor:
        """States [..., width] -> what the embedding of words is compared with, [..., width]."""
        return self.LayerNorm(F.gelu(self.dense(states)))

    def forward(self, states: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        """States [K, width] and the embedding [V, width] -> logits [K, V]."""
        return F.linear(self.hidden(states), words, self.bias)
