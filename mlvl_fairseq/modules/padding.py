"""Where the tokens of padded texts are."""

import torch
from torch import Tensor


def real_tokens(last: Tensor, width: int) -> Tensor:
    """bool [B, width], False at padding, of the positions (int64 [B]) of the last tokens."""
    return torch.arange(width, device=last.device) <= last.unsqueeze(1)
