"""CLIP's text tower (Radford et al. 2021), pooled at positions the caller knows.

CLIP itself pools at the largest token id, which is the end-of-text token only as long as the vocabulary does not
grow. Continual language learning grows it, so the position travels with the tokens (Yang et al. 2024).
"""

from dataclasses import dataclass
from typing import Optional, Sequence

import torch
import torch.nn as nn

from mlvl_fairseq.modules.block_adapter import BlockAdapter
from mlvl_fairseq.modules.expandable_embedding import ExpandableEmbedding
from mlvl_fairseq.modules.length_groups import length_groups
from mlvl_fairseq.modules.transformer import LayerNorm, Transformer


@dataclass(frozen=True)
class TextConfig:
    """Dimensions of a text tower; the fields are the arguments of :class:`CLIPTextTower`."""

    vocab_size: int
    width: int
    layers: int
    heads: int
    embed_dim: int
    context_length: int = 77
    mlp_width: Optional[int] = None  # 4 * width
    activation: str = "quick_gelu"

    def __post_init__(self):
        if self.mlp_width is None:
            object.__setattr__(self, "mlp_width", 4 * self.width)

    def build(self) -> "CLIPTextTower":
        return CLIPTextTower(**vars(self))


class CLIPTextTower(nn.Module):
    """Causal transformer over tokens; parameters are named as in `clip.model.CLIP`.

    Args:
        vocab_size: rows of the token embedding.
        width: model dimension.
        layers: number of transformer blocks.
        heads: attention heads (CLIP: ``width // 64``).
        embed_dim: dimension shared with the image tower.
        context_length: longest input in tokens.
        mlp_width: inner dimension of the feed-forward halves; ``4 * width`` when not given.
        activation: of the feed-forward halves, ``quick_gelu`` or ``gelu``.
    """

    def __init__(
        self,
        vocab_size: int,
        width: int,
        layers: int,
        heads: int,
        embed_dim: int,
        context_length: int = 77,
        mlp_width: Optional[int] = None,
        activation: str = "quick_gelu",
    ):
        super().__init__()
        self.context_length = context_length
        self.token_embedding = ExpandableEmbedding(vocab_size, width)
        self.positional_embedding = nn.Parameter(torch.empty(context_length, width))
        self.transformer = Transformer(width, layers, heads, mlp_width, causal=True, activation=activation)
        self.ln_final = LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, embed_dim))
        nn.init.normal_(self.positional_embedding, std=0.01)
        nn.init.normal_(self.text_projection, std=width**-0.5)

    def forward(
        self,
        tokens: torch.Tensor,
        eos_positions: torch.Tensor,
        adapters: Optional[Sequence[Optional[BlockAdapter]]] = None,
    ) -> torch.Tensor:
        """Encode texts.

        Padding on the right needs no mask: attention is causal and nothing behind the pooled position is read.

        Args:
            tokens: ``[B, T]`` int64 ids, begin and end of text included, ``T <= context_length``.
            eos_positions: ``[B]`` int64, position of each text's first end-of-text token.
            adapters: what is added to each block, None: nothing; prefixes for each example follow the rows of `tokens`.

        Returns:
            ``[B, embed_dim]`` features, not normalised.

        Raises:
            ValueError: if T is larger than the context length.
        """
        length = tokens.shape[1]
        if length > self.context_length:
            raise ValueError(f"{length} tokens are more than the text tower's context length {self.context_length}")
        x = self.token_embedding(tokens) + self.positional_embedding[:length]
        return self.ln_final(self._pool(x, eos_positions, adapters)) @ self.text_projection

    def _pool(self, x: torch.Tensor, eos_positions: torch.Tensor, adapters) -> torch.Tensor:
        """Transformer output ``[B, width]`` at the end of each text.

        On a CPU, texts of like length go through the transformer together, see :func:`length_groups`.
        """
        groups, pooled = length_groups(eos_positions, x.shape[1]), []
        for rows, length in groups:
            own = adapters and [adapter and adapter.select(rows, length) for adapter in adapters]
            pooled.append(self.transformer(x[rows, :length], own, at=eos_positions[rows]))
        return torch.cat(pooled)[torch.cat([rows for rows, _ in groups]).argsort()]
