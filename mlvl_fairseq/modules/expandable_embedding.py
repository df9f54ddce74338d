"""A token embedding that grows with the vocabulary."""

import torch
from torch import Tensor


def grow_rows(weight: Tensor, rows: int, mean: float, std: float, seed: int) -> Tensor:
    """Append rows drawn from N(mean, std^2); the old rows are copied unchanged.

    Args:
        weight: [old rows, d].
        rows: rows of the result.
        mean, std: of the new rows. A negative std means those of **all elements** of `weight` (TEIR's identical
            distribution, Yang et al. 2024, section 3.3); the mean is then taken from there, too.
        seed: of the draw; the same seed and `weight` give the same rows, whatever the device.
    """
    if std < 0:
        mean, std = float(weight.float().mean()), float(weight.float().std())
    generator = torch.Generator().manual_seed(seed)
    new = torch.randn(rows - len(weight), weight.shape[1], generator=generator) * std + mean
    return torch.cat([weight, new.to(weight)])
