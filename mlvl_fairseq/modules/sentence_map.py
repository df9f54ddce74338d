"""What M2M (Pasi 2026) puts behind a frozen multilingual text encoder: linear layers into the space of a teacher."""

import torch
from torch import Tensor, nn

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.modules.padding import Lengths
from mlvl_fairseq.modules.translation import mean_pool


class SentenceMap(nn.Module):
    """One vector of a sentence, then linear layers with nothing between them.

    Args:
        width: dimension of the encoder's states. dim: of the teacher's space. layers: at least 1; the first one is
            ``width -> dim``, the others are ``dim -> dim``.
        sentence: ``mean`` of the states of all tokens, as E5 and other sentence encoders are trained; ``last``, the
            state of ``</s>``.

    Raises:
        UserError: no layers.
    """

    def __init__(self, width: int, dim: int, layers: int, sentence: str = "mean"):
        super().__init__()
        if layers < 1:
            raise UserError(f"--linear-layers {layers}: give 1 or more")
        self.sentence = sentence
        self.layers = nn.ModuleList(nn.Linear(dim if layer else width, dim) for layer in range(layers))

    def forward(self, states: Tensor, padding: Tensor, eos_positions: Tensor, lengths: Lengths = None) -> Tensor:
        """States [B, T, width], padding bool [B, T], ``</s>`` int64 [B] to [B, dim], not normalised. Lengths are not
        used."""
        states = states.to(self.layers[0].weight.dtype)
        if self.sentence == "last":
            x = states[torch.arange(len(states), device=states.device), eos_positions]
        else:
            x = mean_pool(states, ~padding)
        for layer in self.layers:
            x = layer(x)
        return x


class Unchanged(nn.Module):
    """In the C-projector's place: features of the teacher's space stay as they are."""

    def __init__(self, dim: int):
        super().__init__()
        self.in_features = self.out_features = self.input_dim = dim

    def forward(self, features: Tensor) -> Tensor:
        return features.float()
