"""Where the tokens of padded texts are."""

from typing import Optional

import numpy as np
import torch
from torch import Tensor

Lengths = Optional[np.ndarray]  # int64 [B], tokens of each text, where Python reads them without waiting; None: unknown


def real_tokens(last: Tensor, width: int) -> Tensor:
    """bool [B, width], False at padding, of the positions (int64 [B]) of the last tokens."""
    return torch.arange(width, device=last.device) <= last.unsqueeze(1)
