"""Whether two views belong together: the matching losses of CCLM (Zeng et al. 2023, section 3.2)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mlvl_fairseq.losses.sums import NOTHING, Summed


def matching_loss(logits: Tensor, counts: Tensor) -> Summed:
    """Cross-entropy of pairs, in float32; nothing waits for the device.

    Args:
        logits: [3B, 2], of B pairs that belong together (class 1) and 2B that do not (class 0).
        counts: bool [3B], pairs that count.
    """
    labels = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
    labels[: len(logits) // 3] = 1
    losses = F.cross_entropy(logits.float(), labels.where(counts, NOTHING), reduction="sum")
    return Summed(losses, counts.sum())
