"""Masked language modelling (Devlin et al. 2019), of a text read beside its view in CCLM (Zeng et al. 2023)."""

from typing import Callable

import torch.nn.functional as F
from torch import Tensor

from mlvl_fairseq.losses.sums import Summed
from mlvl_fairseq.modules.chunking import in_chunks

MAX_LOGITS = 2**26  # more are computed in blocks of positions: 256 MiB each, 268 positions of XLM-R's vocabulary
NOTHING = -100  # the label of a position that asks for nothing


def masked_lm_loss(states: Tensor, labels: Tensor, counts: Tensor, head: Callable[[Tensor], Tensor], vocab_size: int):
    """Cross-entropy of the tokens behind masks, in float32, as :class:`Summed` over positions.

    Only positions that ask for something go through the head. Memory does not grow with their number times the
    vocabulary: blocks of logits are computed anew for the gradient.

    Args:
        states: [B, M, width]. labels: int64 [B, M], :data:`NOTHING` where nothing is asked. counts: bool [B], rows
            that count.
        head: states [K, width] -> logits [K, vocab_size]. It runs twice, see :func:`in_chunks`.
    """
    asked = (labels != NOTHING) & counts[:, None]

    def block(states: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(head(states).float(), labels, reduction="sum").unsqueeze(0)

    total = in_chunks(block, (states[asked], labels[asked]), max(1, MAX_LOGITS // vocab_size)).sum()
    return Summed(total, asked.sum())
