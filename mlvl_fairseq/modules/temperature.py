"""The learned temperature of contrastive losses, as CLIP has it (Radford et al. 2021)."""

import math

import torch
from torch import Tensor, nn

MAX_LOGIT_SCALE = math.log(100)  # CLIP's bound on the inverse temperature
INITIAL_TEMPERATURE = 0.07


def new_logit_scale() -> nn.Parameter:
    """Logarithm of the inverse temperature at the start of training."""
    return nn.Parameter(torch.tensor(math.log(1 / INITIAL_TEMPERATURE)))


def temperature(logit_scale: Tensor) -> Tensor:
    """Scalar that divides cosines, at least 0.01."""
    return (-logit_scale.clamp(max=MAX_LOGIT_SCALE)).exp()
