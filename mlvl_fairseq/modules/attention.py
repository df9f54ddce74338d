"""Torch's fused attention, as all towers call it."""

from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from mlvl_fairseq.modules.exporting import is_exported

HALF = (torch.bfloat16, torch.float16)


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    seen: Optional[Tensor] = None,
    causal: bool = False,
    dropout: float = 0.0,
) -> Tensor:
    """Mixed values [B, heads, Q, d], in the type of `query`.

    On a CPU half precision is computed in float32: it is less than a hundredth of a tower's arithmetic, and there the
    gradient of torch's kernel takes four to fourteen times as long in bfloat16.

    Args:
        query: [B, heads, Q, d]. key, value: [B, heads, T, d].
        seen: bool, broadcast to [B, heads, Q, T], positions that are looked at; None: all, or as `causal` says.
        causal: position t sees positions <= t. dropout: of attention weights.
    """
    options = {"attn_mask": seen, "dropout_p": dropout, "is_causal": causal}
    if query.device.type != "cpu" or query.dtype not in HALF or is_exported():
        return F.scaled_dot_product_attention(query, key, value, **options)
    with torch.autocast("cpu", enabled=False):
        mixed = F.scaled_dot_product_attention(query.float(), key.float(), value.float(), **options)
    return mixed.to(query.dtype)
