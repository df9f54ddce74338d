"""Cross-entropy of translation with smoothed labels."""

from typing import Callable, Dict, Tuple

import torch
from torch import Tensor

# How eps is dealt out, as the eps' of ``(1 - eps') * onehot + eps' / V``, for V tokens of which one is right:
SMOOTHING: Dict[str, Callable[[float, int], float]] = {
    "others": lambda eps, size: eps * size / (size - 1),  # to all tokens but the right one, which keeps 1 - eps
    "all": lambda eps, size: eps,  # to all tokens, the right one included
}


def smoothed_cross_entropy(
    logits: Tensor, targets: Tensor, smoothing: float, to: str, padding: int
) -> Tuple[Tensor, Tensor]:
    """Label-smoothed cross-entropy and negative log-likelihood of each sentence, **summed** over its tokens.

    Args:
        logits: [B, T, V]. targets: [B, T] ids; those equal to `padding` do not count.
        smoothing: eps.
        to: which tokens share eps: ``others`` (fairseq's criterion since 2021) or ``all``
            (``(1 - eps) * nll + eps / V * sum(-log p)``: fairseq's before, and in the published code of mCLIP).

    Returns:
        smoothed [B], nll [B], at least in float32.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    size, counts = logits.shape[-1], targets.ne(padding)
    normalizer = logits.logsumexp(-1)
    nll = normalizer - logits.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    uniform = normalizer - logits.mean(-1)
    share = SMOOTHING[to](smoothing, size)
    smoothed = (1 - share) * nll + share * uniform
    return (smoothed * counts).sum(1), (nll * counts).sum(1)
