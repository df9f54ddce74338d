"""The transformer of OpenAI's CLIP (Radford et al. 2021): pre-LN residual blocks with quick-GELU, or with
open_clip's GELU; and with the adapters of LilT (Khan et al. 2023, section 3).

Parameters carry the names of `clip.model.Transformer`, so that official state dicts load without renaming.
"""

from typing import Callable, Optional, Sequence, Tuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from mlvl_fairseq.modules.attention import attention
from mlvl_fairseq.modules.block_adapter import BlockAdapter, Prefix
from mlvl_fairseq.modules.compiling import Compilable, per_position
from mlvl_fairseq.modules.exporting import is_exported
from mlvl_fairseq.modules.packing import Packing
from mlvl_fairseq.modules.towers.base import Parts

QUICK = 1.702  # of quick-GELU
FRESH_STD = 0.02  # of the matrices of a block that is appended (LilT)


class LayerNorm(nn.LayerNorm):
    """Layer normalisation computed in float32 whatever the precision of input and parameters."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.layer_norm(x.float(), self.normalized_shape, self.weight.float(), self.bias.float(), self.eps)
        return y.to(x.dtype)


class QuickGELU(nn.Module):
    """``x * sigmoid(1.702 x)``, the approximation of GELU that CLIP was trained with."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not x.requires_grad or is_exported():
            return x * torch.sigmoid(QUICK * x)
        return _QuickGELU.apply(x)


class _QuickGELU(torch.autograd.Function):
    """It is ``silu(q x) / q``, whose gradient, ``silu'(q x)``, is one pass over memory instead of five."""

    @staticmethod
    def forward(ctx, x: torch.Tensor) -> torch.Tensor:
        scaled = QUICK * x
        ctx.save_for_backward(scaled)
        return F.silu(scaled).mul_(1 / QUICK)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        return torch.ops.aten.silu_backward(gradient, *ctx.saved_tensors)


ACTIVATIONS = {"quick_gelu": QuickGELU, "gelu": nn.GELU}


class MultiheadSelfAttention(nn.Module):
    """Self-attention on torch's fused kernels; `project` and `attend` are apart so that each can be extended alone.

    Args:
        width: model dimension, a multiple of ``heads``.
        heads: number of attention heads.
        causal: position t sees positions <= t only.
    """

    def __init__(self, width: int, heads: int, causal: bool = False):
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"width {width} is not a multiple of the number of attention heads {heads}")
        self.heads, self.causal = heads, causal
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def project(self, x: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """``[B, T, width]`` -> query, key and value, each ``[B, heads, T, width / heads]``."""
        batch, length, width = x.shape
        qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        qkv = qkv.view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        return qkv[0], qkv[1], qkv[2]

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Optional[torch.Tensor] = None
    ) -> torch.Tensor:
        """Mix values.

        Args:
            query: ``[B, heads, T, width / heads]``. key, value: ``[B, heads, S, width / heads]``.
            mask: bool, broadcast to ``[B, heads, T, S]``, True: seen; None: as ``causal`` says.

        Returns:
            ``[B, T, width]``.
        """
        is_causal = self.causal and mask is None
        return attention(query, key, value, mask, is_causal).transpose(1, 2).flatten(2)

    def mix(
        self,
        x: torch.Tensor,
        adapter: Optional[BlockAdapter] = None,
        at: Optional[torch.Tensor] = None,
        seen: Optional[torch.Tensor] = None,
        packing: Optional[Packing] = None,
    ) -> torch.Tensor:
        """Mixed values, before `out_proj`, which the block computes with the rest: ``[B, T, width] -> [B, T, width]``;
        with `at`, int64 ``[B]``, for that position only: ``[B, 1, width]``.

        `seen`: bool, broadcast to ``[B, heads, T, T]``, the keys that are looked at, where there is neither an adapter
        nor `at`; None: as ``causal`` says. `packing`: of texts ``[N, width]``, with `at` ``[B, width]``.
        """
        if packing is not None:
            return self._mix_packed(x, adapter, at, packing)
        query, key, value = self.project(x) if at is None else self._project_at(x, at)
        prefix = adapter and adapter.prefix
        if adapter and adapter.query is not None:
            query = query + self._split_heads(adapter.query(take_positions(x, at)))
        if adapter and adapter.value is not None:
            value = value + self._split_heads(adapter.value(x))
        if prefix is not None:
            key, value = self._prepend(prefix.key, key), self._prepend(prefix.value, value)
        return self.attend(query, key, value, self._mask(x, prefix, at) if seen is None else seen)

    def _mix_packed(
        self, x: torch.Tensor, adapter: Optional[BlockAdapter], at: Optional[torch.Tensor], packing: Packing
    ) -> torch.Tensor:
        """Mixed values of texts that are packed, ``[N, width] -> [N or B, width]``."""
        read, weight, bias, width = take_positions(x, at), self.in_proj_weight, self.in_proj_bias, x.shape[-1]
        if at is None:
            query, key, value = F.linear(x, weight, bias).chunk(3, dim=-1)
        else:
            query = F.linear(read, weight[:width], bias[:width])
            key, value = F.linear(x, weight[width:], bias[width:]).chunk(2, dim=-1)
        if adapter and adapter.query is not None:
            query = query + adapter.query(read)
        if adapter and adapter.value is not None:
            value = value + adapter.value(x)
        return packing.attend(query, key, value, self.heads, self.causal, prefix=adapter and adapter.prefix)

    def _project_at(self, x: torch.Tensor, at: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """As :meth:`project`, the query for position `at` only: ``[B, heads, 1, width / heads]``."""
        width = x.shape[-1]
        query = F.linear(take_positions(x, at), self.in_proj_weight[:width], self.in_proj_bias[:width])
        key, value = F.linear(x, self.in_proj_weight[width:], self.in_proj_bias[width:]).chunk(2, dim=-1)
        return self._split_heads(query), self._split_heads(key), self._split_heads(value)

    def _split_heads(self, x: torch.Tensor) -> torch.Tensor:
        """``[B, T, width] -> [B, heads, T, width / heads]``."""
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def _prepend(self, prefix: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """``[B or 1, P, width]`` in front of ``[B, heads, T, width / heads]``."""
        return torch.cat([self._split_heads(prefix.to(x.dtype)).expand(x.shape[0], -1, -1, -1), x], dim=2)

    def _mask(self, x: torch.Tensor, prefix: Optional[Prefix], at: Optional[torch.Tensor]) -> Optional[torch.Tensor]:
        """Which keys are seen, bool ``[T, P + T]``, or ``[B, 1, T or 1, P + T]``; None: as ``causal`` says."""
        if prefix is None and at is None:
            return None
        mask, length = None, x.shape[1]
        front = 0 if prefix is None else prefix.length
        if self.causal:
            last = torch.arange(length, device=x.device)[:, None] if at is None else at[:, None, None, None]
            mask = torch.arange(front + length, device=x.device) <= front + last
        if prefix is not None and prefix.visible is not None:
            visible = prefix.visible[:, None, None]
            mask = visible if mask is None else mask & visible
        return mask


def take_positions(x: torch.Tensor, at: Optional[torch.Tensor]) -> torch.Tensor:
    """``[B, T, width] -> [B, 1, width]``, one position of each example, `at` int64 ``[B]``; None: `x`, all of them.
    Of texts that are packed, ``[N, width] -> [B, width]``.

    Sizes are asked of `shape` here and in towers: `len` is a plain number, which an exported graph would keep.
    """
    if at is not None and x.dim() == 2:
        return x[at]
    return x if at is None else x[torch.arange(x.shape[0], device=x.device), at].unsqueeze(1)


class MLP(nn.Module):
    """Feed-forward half of a block: ``width -> mlp_width -> width``; `activation`: a key of :data:`ACTIVATIONS`."""

    def __init__(self, width: int, mlp_width: int, activation: str = "quick_gelu"):
        super().__init__()
        self.c_fc = nn.Linear(width, mlp_width)
        self.gelu = ACTIVATIONS[activation]()
        self.c_proj = nn.Linear(mlp_width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.c_proj(self.gelu(self.c_fc(x)))


class ResidualAttentionBlock(Compilable, nn.Module):
    """Pre-LN block: ``x + attention(LN(x))``, then ``x + MLP(LN(x))``; ``[B, T, width] -> [B, T, width]``.

    An adapter, if given, has its part in the attention and in the output. With `at`, int64 ``[B]``, only that position
    of each example is computed, from all it sees: ``[B, 1, width]``. With a `packing` texts are ``[N, width]``, and one
    position of each ``[B, width]``. Layerwise adapters, where they are inserted, stand on the inputs of the branches.
    """

    def __init__(self, width: int, heads: int, mlp_width: int, causal: bool = False, activation: str = "quick_gelu"):
        super().__init__()
        self.attn = MultiheadSelfAttention(width, heads, causal)
        self.ln_1 = LayerNorm(width)
        self.mlp = MLP(width, mlp_width, activation)
        self.ln_2 = LayerNorm(width)
        self.adapter1, self.adapter2 = nn.Identity(), nn.Identity()

    def forward(
        self,
        x: torch.Tensor,
        adapter: Optional[BlockAdapter] = None,
        at: Optional[torch.Tensor] = None,
        seen: Optional[torch.Tensor] = None,
        packing: Optional[Packing] = None,
    ) -> torch.Tensor:
        mixed = self.attn.mix(self.ln_1(self.adapter1(x)), adapter, at, seen, packing)
        x = self._finish(take_positions(x, at), mixed)
        return x if adapter is None or adapter.output is None else adapter.output(x)

    @per_position
    def _finish(self, x: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
        x = x + self.attn.out_proj(mixed)
        return x + self.mlp(self.ln_2(self.adapter2(x)))


class Transformer(nn.Module):
    """A stack of :class:`ResidualAttentionBlock`; ``[B, T, width] -> [B, T, width]``.

    Args:
        width: model dimension.
        layers: number of blocks.
        heads: attention heads of each block.
        mlp_width: inner dimension of the feed-forward halves; ``4 * width`` when not given.
        causal: position t sees positions <= t only.
        activation: of the feed-forward halves, a key of :data:`ACTIVATIONS`.
    """

    def __init__(
        self,
        width: int,
        layers: int,
        heads: int,
        mlp_width: Optional[int] = None,
        causal: bool = False,
        activation: str = "quick_gelu",
    ):
        super().__init__()
        self.dimensions = width, heads, mlp_width or 4 * width, causal, activation
        self.new_adapter: Optional[Callable[[], nn.Module]] = None
        self.resblocks = nn.ModuleList(ResidualAttentionBlock(*self.dimensions) for _ in range(layers))
        self.reset_parameters()

    def parts(self, behind: str) -> Parts:
        """Where the parts are of a tower that has this as ``transformer``; `behind`: regular expression for what
        follows the last block there."""
        return Parts(
            norm=r"(^|\.)ln_",
            dense=r"\.mlp\.",
            attention=r"\.attn\.",
            last=rf"^transformer\.resblocks\.{len(self.resblocks) - 1}\.|{behind}",
            block=r"^transformer\.resblocks\.{}\.",
        )

    def insert_adapters(self, new_adapter: Callable[[], nn.Module]) -> None:
        """Fresh adapters on the inputs of both branches of all blocks, and of those that will be appended.

        Args:
            new_adapter: makes one, ``[..., width] -> [..., width]``.
        """
        self.new_adapter = new_adapter
        for block in self.resblocks:
            block.adapter1, block.adapter2 = new_adapter(), new_adapter()

    def append_block(self) -> None:
        """A fresh block behind the last one; matrices are drawn from N(0, 0.02), as LilT draws them."""
        block = ResidualAttentionBlock(*self.dimensions)
        for name, parameter in block.named_parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=FRESH_STD)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
        if self.new_adapter is not None:
            block.adapter1, block.adapter2 = self.new_adapter(), self.new_adapter()
        self.resblocks.append(block)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """CLIP's published normal initialisation, scaled down with depth where a block writes to the residual stream.

        `clip.model` draws only its text tower like this and leaves the image tower at torch's defaults; here both
        towers are drawn alike.
        """
        for block in self.resblocks:
            width = block.attn.out_proj.in_features
            residual_std = width**-0.5 * (2 * len(self.resblocks)) ** -0.5
            nn.init.normal_(block.attn.in_proj_weight, std=width**-0.5)
            nn.init.zeros_(block.attn.in_proj_bias)
            nn.init.normal_(block.attn.out_proj.weight, std=residual_std)
            nn.init.zeros_(block.attn.out_proj.bias)
            nn.init.normal_(block.mlp.c_fc.weight, std=(2 * width) ** -0.5)
            nn.init.normal_(block.mlp.c_proj.weight, std=residual_std)

    def forward(
        self,
        x: torch.Tensor,
        adapters: Optional[Sequence[Optional[BlockAdapter]]] = None,
        at: Optional[torch.Tensor] = None,
        packing: Optional[Packing] = None,
    ) -> torch.Tensor:
        """Run all blocks.

        Args:
            x: ``[B, T, width]``; with a packing ``[N, width]``.
            adapters: one for each block, or None.
            at: int64 ``[B]``, the position whose output is wanted. The last block, of which nothing else is read, then
                computes no more than that: keys and values of all positions, everything else of one.
            packing: where the texts are in `x`; `at` are then positions in it, in its order, of last tokens.

        Returns:
            as `x`; with `at` ``[B, width]``.
        """
        last = len(self.resblocks) - 1
        for number, (block, adapter) in enumerate(zip(self.resblocks, adapters or [None] * (last + 1), strict=True)):
            x = block(x, adapter, at if number == last else None, packing=packing)
        return x if at is None or packing is not None else x.squeeze(1)
