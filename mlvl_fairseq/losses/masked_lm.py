"""Masked language modelling (Devlin et al. 2019), of a text read beside its view in CCLM (Zeng et al. 2023)."""

from typing import Callable, Optional

import torch.nn.functional as F
from torch import Tensor

from mlvl_fairseq.losses.sums import NOTHING, Summed
from mlvl_fairseq.modules.chunking import in_chunks

MAX_LOGITS = 2**26  # more are computed in blocks of positions: 256 MiB each, 268 positions of XLM-R's vocabulary


def masked_lm_loss(
    states: Tensor,
    labels: Tensor,
    counts: Tensor,
    head: Callable[[Tensor], Tensor],
    vocab_size: int,
    places: Optional[Tensor] = None,
) -> Summed:
    """Cross-entropy of the tokens behind masks, in float32, as :class:`Summed` over positions.

    Only positions that ask for something go through the head. Memory does not grow with their number times the
    vocabulary: blocks of logits are computed anew for the gradient.

    Args:
        states: [B, M, width]. labels: int64 [B, M], :data:`NOTHING` where nothing is asked. counts: bool [B], rows
            that count.
        head: states [K, width] -> logits [K, vocab_size]. It runs twice, see :func:`in_chunks`.
        places: int64 [K], which of the B * M positions ask for something; None: it is looked up, for which Python waits
            for the device.
    """
    if places is None:
        places = ((labels != NOTHING) & counts[:, None]).flatten().nonzero().squeeze(1)
    counted = counts[places // max(1, labels.shape[1])]
    asked = states.flatten(0, 1)[places], labels.flatten()[places].where(counted, NOTHING)

    def block(states: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(head(states).float(), labels, reduction="sum").unsqueeze(0)

    return Summed(in_chunks(block, asked, max(1, MAX_LOGITS // vocab_size)).sum(), counted.sum())
