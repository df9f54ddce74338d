"""A linear layer for every language that is translated into (Chen et al. 2023)."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor


class LanguageProjections(nn.Module):
    """``count`` linear maps of one width, each chosen by a number.

    They are two tensors, weight [count, width, width] and bias [count, width], so that every update has gradients for
    all of its parameters, as data-parallel training wants it.
    """

    def __init__(self, count: int, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(count, width, width))
        self.bias = nn.Parameter(torch.zeros(count, width))
        for weight in self.weight:
            nn.init.xavier_uniform_(weight)

    def forward(self, states: Tensor, language: int) -> Tensor:
        """[..., width] -> [..., width] with the map of number `language`."""
        return F.linear(states, self.weight[language], self.bias[language])
