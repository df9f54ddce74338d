"""Cross-entropy of translation with smoothed labels."""

from typing import Callable, Dict, Tuple

import torch
from torch import Tensor

# How eps is dealt out, as the eps' of ``(1 - eps') * onehot + eps' / V``, for V tokens of which one is right:
SMOOTHING: Dict[str, Callable[[float, int], float]] = {
    "others": lambda eps, size: eps * size / (size - 1),  # to all tokens but the right one, which keeps 1 - eps
    "all": lambda eps, size: eps,  # to all tokens, the right one included
}


def smoothed_cross_entropy(logits: Tensor, targets: Tensor, smoothing: float, to: str) -> Tuple[Tensor, Tensor]:
    """Label-smoothed cross-entropy of each token, and its negative log-likelihood, which has no gradient.

    Args:
        logits: [N, V]. targets: [N] ids.
        smoothing: eps.
        to: which tokens share eps: ``others`` (fairseq's criterion since 2021) or ``all``
            (``(1 - eps) * nll + eps / V * sum(-log p)``: fairseq's before, and in the published code of mCLIP).

    Returns:
        smoothed [N], nll [N], at least in float32.
    """
    return _SmoothedCrossEntropy.apply(logits, targets, SMOOTHING[to](smoothing, logits.shape[-1]))


class _SmoothedCrossEntropy(torch.autograd.Function):
    """Keeps the logits only, and makes one more tensor of their size, the gradient: with 250,000 tokens they are what a
    step takes its memory and much of its time for."""

    @staticmethod
    def forward(ctx, logits: Tensor, targets: Tensor, share: float) -> Tuple[Tensor, Tensor]:
        exact = _at_least_float32(logits)
        normalizer, targets = exact.logsumexp(-1), targets.unsqueeze(-1)
        nll = normalizer - exact.gather(-1, targets).squeeze(-1)
        ctx.save_for_backward(logits, normalizer, targets)
        ctx.share = share
        ctx.mark_non_differentiable(nll)
        return (1 - share) * nll + share * (normalizer - exact.mean(-1)), nll

    @staticmethod
    def backward(ctx, grad: Tensor, _):
        """softmax - (1 - share) * onehot - share / V"""
        logits, normalizer, targets = ctx.saved_tensors
        result = (_at_least_float32(logits) - normalizer.unsqueeze(-1)).exp_().sub_(ctx.share / logits.shape[-1])
        result.scatter_add_(-1, targets, torch.full_like(targets, ctx.share - 1, dtype=result.dtype))
        return result.mul_(grad.unsqueeze(-1)).to(logits.dtype), None, None


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
