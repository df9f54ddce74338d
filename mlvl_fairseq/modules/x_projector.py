"""The projectors of TriKD (Chen et al. 2023): from a frozen text encoder and a frozen CLIP to one space.

Parameters of the X-projector are named as in fairseq's post-LN `TransformerEncoderLayer`, as in the published
checkpoints.
"""

import math
from typing import Optional

import torch
import torch.nn as nn
import torch.nn.functional as F

from mlvl_fairseq.modules.attention import attention
from mlvl_fairseq.modules.compiling import Compilable, per_position
from mlvl_fairseq.modules.exporting import is_exported
from mlvl_fairseq.modules.packing import Packing
from mlvl_fairseq.modules.padding import Lengths
from mlvl_fairseq.modules.transformer import take_positions


class XProjector(nn.Module):
    """Post-LN transformer layers over the states of a text encoder, read at the end of the sentence.

    Where padding stands does not matter: there are no positions here, and padding is masked.

    Args:
        width: dimension of the states, and of the space.
        ffn_width: inner dimension of the feed-forward halves.
        heads: attention heads.
        layers: number of layers, at least 1.
        dropout: after attention and feed-forward. attention_dropout: of attention weights.
    """

    def __init__(
        self, width: int, ffn_width: int, heads: int, layers: int, dropout: float = 0.3, attention_dropout: float = 0.1
    ):
        super().__init__()
        if layers < 1:
            raise ValueError("an X-projector has at least one layer")
        self.layers = nn.ModuleList(
            PostLNLayer(width, ffn_width, heads, dropout, attention_dropout) for _ in range(layers)
        )

    def forward(
        self,
        states: torch.Tensor,
        padding: torch.Tensor,
        eos_positions: torch.Tensor,
        lengths: Lengths = None,
    ) -> torch.Tensor:
        """Project sentences.

        Args:
            states: ``[B, T, width]``, last hidden states of the encoder.
            padding: bool ``[B, T]``, True where there is no token.
            eos_positions: int64 ``[B]``, where each sentence's ``</s>`` is.
            lengths: int64 ``[B]``, see :class:`Packing`.

        Returns:
            ``[B, width]``, not normalised.
        """
        x = states.to(self.layers[0].fc1.weight.dtype)
        packing, at = None, eos_positions
        if not is_exported():
            packing = Packing(~padding, x.shape[-1], lengths)
            x, at = packing.pack(x), packing.find(eos_positions)
        for layer in self.layers[:-1]:
            x = layer(x, padding, packing=packing)
        x = self.layers[-1](x, padding, at, packing)  # of the last layer, one position is read
        return x.squeeze(1) if packing is None else packing.of_batch(x)


class PostLNLayer(Compilable, nn.Module):
    """``LN(x + attention(x))``, then ``LN(x + feed-forward(x))``; initialised as fairseq's encoder layer."""

    def __init__(self, width: int, ffn_width: int, heads: int, dropout: float, attention_dropout: float):
        super().__init__()
        self.self_attn = SelfAttention(width, heads, attention_dropout)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, ffn_width)
        self.fc2 = nn.Linear(ffn_width, width)
        self.final_layer_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: torch.Tensor,
        padding: torch.Tensor,
        at: Optional[torch.Tensor] = None,
        packing: Optional[Packing] = None,
    ) -> torch.Tensor:
        """``[B, T, width] -> [B, T, width]``; with `at`, int64 ``[B]``, for that position only: ``[B, 1, width]``. With
        a packing ``[N, width]``, and with `at` ``[B, width]``."""
        query = take_positions(x, at)
        return self._finish(query, self.self_attn(query, x, padding, packing))

    @per_position
    def _finish(self, query: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
        x = self.self_attn_layer_norm(query + self.dropout(self.self_attn.out_proj(mixed)))
        return self.final_layer_norm(x + self.dropout(self.fc2(F.gelu(self.fc1(x)))))


class SelfAttention(nn.Module):
    """Multi-head attention with separate projections, on torch's fused kernels; `out_proj` is left to the layer."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"width {width} is not a multiple of the number of attention heads {heads}")
        self.heads, self.dropout = heads, dropout
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))
        for projection in (self.q_proj, self.k_proj, self.v_proj):
            nn.init.xavier_uniform_(projection.weight, gain=1 / math.sqrt(2))
        nn.init.xavier_uniform_(self.out_proj.weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(
        self, query: torch.Tensor, x: torch.Tensor, padding: torch.Tensor, packing: Optional[Packing]
    ) -> torch.Tensor:
        """``[B, Q, width]`` that look at ``[B, T, width]`` where `padding`, bool ``[B, T]``, is False; with a packing
        ``[N or B, width]`` that look at ``[N, width]``."""
        parts, dropout = (self.q_proj(query), self.k_proj(x), self.v_proj(x)), self.dropout if self.training else 0.0
        if packing is not None:
            return packing.attend(*parts, self.heads, dropout=dropout)
        heads = [part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in parts]
        mixed = attention(*heads, ~padding[:, None, None], dropout=dropout)
        return mixed.transpose(1, 2).flatten(2)


class CProjector(nn.Linear):
    """One linear map without bias, shared by CLIP's images and texts: ``[B, clip_dim] -> [B, width]``."""

    def __init__(self, clip_dim: int, width: int):
        super().__init__(clip_dim, width, bias=False)

    @property
    def input_dim(self) -> int:
        return self.in_features

    def reset_parameters(self) -> None:
        nn.init.xavier_uniform_(self.weight)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return super().forward(features.to(self.weight.dtype))
