"""The adapter of LilT (Khan et al. 2023, section 3.2), which Houlsby et al. (2019) put into BERT."""

import torch.nn.functional as F
from torch import Tensor, nn

from mlvl_fairseq.errors import UserError

STD = 0.02  # of fresh weights: an adapter starts close to the identity, but is none


class LayerwiseAdapter(nn.Module):
    """``x + W_up GELU(W_down x + b_down) + b_up``; [..., width] -> [..., width].

    Args:
        width: of its input. reduction: the bottleneck has ``width // reduction`` dimensions.

    Raises:
        UserError: these are none.
    """

    def __init__(self, width: int, reduction: int = 4):
        super().__init__()
        if not 1 <= reduction <= width:
            raise UserError(f"an adapter of width {width} // {reduction} has no dimensions")
        self.down_sampler = nn.Linear(width, width // reduction)
        self.up_sampler = nn.Linear(width // reduction, width)
        for layer in (self.down_sampler, self.up_sampler):
            nn.init.normal_(layer.weight, std=STD)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.up_sampler(F.gelu(self.down_sampler(x)))
