"""What analyses look at: a model whose features are those of its text tower alone, and some of the captions."""

from typing import Optional

import numpy as np

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.inference.encoder import Encoder
from mlvl_fairseq.networks.clip import ClipNetwork


def load_text_tower(path, device: str = "cpu", **frozen) -> Encoder:
    """:meth:`Encoder.load`. Raises UserError: no CLIP, or its method adds adapters or prompts to the text tower."""
    encoder = Encoder.load(path, device=device, **frozen)
    if not isinstance(encoder.network, ClipNetwork):
        raise UserError(f"{path}: only text towers of CLIP are analysed")
    if encoder.network.adapter is not None:
        raise UserError(
            f"{path}: only text towers without adapters are analysed, and this model's method adds adapters or prompts"
        )
    return encoder


def sample_rows(count: int, limit: Optional[int], seed: int) -> np.ndarray:
    """int [min(count, limit)]: row numbers below `count`, ascending, drawn without replacement; no limit: all. The same
    for the same seed."""
    if limit is None or limit >= count:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, limit, replace=False))
