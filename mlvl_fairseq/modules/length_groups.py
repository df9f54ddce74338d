"""Texts of like length go together: on a CPU time follows the positions, and half of a random batch is padding."""

from typing import List, Tuple

import torch
from torch import Tensor

LENGTH_GROUPS = 4
ROWS_A_GROUP = 8  # at least


def length_groups(last: Tensor, width: int) -> List[Tuple[Tensor, int]]:
    """Split a batch, shortest texts first. A GPU, a small batch, and a graph that is exported take it whole.

    Args:
        last: int64 [B], position of each text's last token. width: of the batch in tokens.

    Returns:
        the rows (int64 [R]) of each group, and how many positions are enough for them.
    """
    if is_exported() or last.device.type != "cpu" or len(last) < ROWS_A_GROUP * LENGTH_GROUPS:
        return [(torch.arange(last.shape[0], device=last.device), width)]
    order = last.argsort(stable=True)
    return [(rows, int(last[rows[-1]]) + 1) for rows in order.chunk(LENGTH_GROUPS)]


def real_tokens(last: Tensor, width: int) -> Tensor:
    """bool [B, width], False at padding, of the positions (int64 [B]) of the last tokens."""
    return torch.arange(width, device=last.device) <= last.unsqueeze(1)


def is_exported() -> bool:
    """Whether a graph is recorded for other programs: nothing in it may depend on the numbers of the batch at hand."""
    return torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export()
