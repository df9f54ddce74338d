"""Captions drawn from many: the same ones for the same seed."""

from typing import Optional

import numpy as np


def sample_rows(count: int, limit: Optional[int], seed: int) -> np.ndarray:
    """int [min(count, limit)]: row numbers below `count`, ascending, drawn without replacement; no limit: all."""
    if limit is None or limit >= count:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, limit, replace=False))
