"""CLIP's text tower (Radford et al. 2021), pooled at positions the caller knows.

CLIP itself pools at the largest token id, which is the end-of-text token only as long as the vocabulary does not
grow. Continual language learning grows it, so the position travels with the tokens (Yang et al. 2024).
"""

from dataclasses import dataclass
from functools import partial
from typing import Optional, Sequence, Tuple

import torch
import torch.nn as nn
import torch.nn.functional as F

from mlvl_fairseq.modules.adapters.layerwise import LayerwiseAdapter
from mlvl_fairseq.modules.block_adapter import BlockAdapter
from mlvl_fairseq.modules.expandable_embedding import ExpandableEmbedding
from mlvl_fairseq.modules.exporting import is_exported
from mlvl_fairseq.modules.packing import Packing
from mlvl_fairseq.modules.padding import Lengths
from mlvl_fairseq.modules.towers.base import Parts, Tower
from mlvl_fairseq.modules.transformer import LayerNorm, Transformer


@dataclass(frozen=True)
class TextConfig:
    """Dimensions of a text tower; the fields are the arguments of :class:`CLIPTextTower`."""

    vocab_size: int
    width: int
    layers: int
    heads: int
    embed_dim: Optional[int]
    context_length: int = 77
    mlp_width: Optional[int] = None  # 4 * width
    activation: str = "quick_gelu"

    def __post_init__(self):
        if self.mlp_width is None:
            object.__setattr__(self, "mlp_width", 4 * self.width)

    def build(self) -> "CLIPTextTower":
        return CLIPTextTower(**vars(self))


class CLIPTextTower(Tower):
    """Causal transformer over tokens; parameters are named as in `clip.model.CLIP`.

    Args:
        vocab_size: rows of the token embedding.
        width: model dimension.
        layers: number of transformer blocks.
        heads: attention heads (CLIP: ``width // 64``).
        embed_dim: dimension shared with the image tower; None: there is no projection to it.
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
        embed_dim: Optional[int],
        context_length: int = 77,
        mlp_width: Optional[int] = None,
        activation: str = "quick_gelu",
    ):
        super().__init__()
        self.context_length, self.width = context_length, width
        self.token_embedding = ExpandableEmbedding(vocab_size, width)
        self.positional_embedding = nn.Parameter(torch.empty(context_length, width))
        self.transformer = Transformer(width, layers, heads, mlp_width, causal=True, activation=activation)
        self.ln_final = LayerNorm(width)
        self.text_projection = None if embed_dim is None else nn.Parameter(torch.empty(width, embed_dim))
        nn.init.normal_(self.positional_embedding, std=0.01)
        if self.text_projection is not None:
            nn.init.normal_(self.text_projection, std=width**-0.5)

    @property
    def parts(self) -> Parts:
        return self.transformer.parts(r"^ln_final\.")

    def insert_adapters(self, reduction: int) -> None:
        self.transformer.insert_adapters(partial(LayerwiseAdapter, self.width, reduction))

    def append_block(self) -> None:
        self.transformer.append_block()

    def forward(
        self,
        tokens: torch.Tensor,
        eos_positions: torch.Tensor,
        adapters: Optional[Sequence[Optional[BlockAdapter]]] = None,
        lengths: Lengths = None,
    ) -> torch.Tensor:
        """Encode texts.

        Padding on the right needs no mask: attention is causal and nothing behind the pooled position is read.

        Args:
            tokens: ``[B, T]`` int64 ids, begin and end of text included, ``T <= context_length``.
            eos_positions: ``[B]`` int64, position of each text's first end-of-text token.
            adapters: what is added to each block, None: nothing; prefixes for each example follow the rows of `tokens`.
            lengths: int64 ``[B]``, see :class:`Packing`.

        Returns:
            ``[B, embed_dim]`` features, not normalised.

        Raises:
            ValueError: if T is larger than the context length.
        """
        return self.pool(tokens, eos_positions, adapters, lengths) @ self.text_projection

    def embed(self, tokens: torch.Tensor, places: Optional[torch.Tensor] = None) -> torch.Tensor:
        """What the first block takes, ``[B, T, width]``; of ids ``[N]`` at given places in texts ``[N, width]``."""
        if places is not None:
            return self.token_embedding(tokens) + F.embedding(places, self.positional_embedding)
        self._require_length(tokens)
        return self.token_embedding(tokens) + self.positional_embedding[: tokens.shape[1]]

    def _require_length(self, tokens: torch.Tensor) -> None:
        if tokens.shape[1] > self.context_length:
            text = f"{tokens.shape[1]} tokens are more than the text tower's context length {self.context_length}"
            raise ValueError(text)

    def pack(
        self, tokens: torch.Tensor, eos_positions: torch.Tensor, lengths: Lengths = None
    ) -> Tuple[torch.Tensor, Packing]:
        """What the first block takes of texts without padding, ``[N, width]``, and where they are in it."""
        self._require_length(tokens)
        packing = Packing.of_last(eos_positions, tokens.shape[1], self.width, lengths)
        return self.embed(packing.pack(tokens), packing.places), packing

    def pool(self, tokens: torch.Tensor, eos_positions: torch.Tensor, adapters=None, lengths=None) -> torch.Tensor:
        """The last state ``[B, width]`` at the end of each text, of which the features are a projection.

        Padding is not computed, see :class:`Packing`; only an exported graph has it.
        """
        if is_exported():
            return self.ln_final(self.transformer(self.embed(tokens), adapters, at=eos_positions))
        x, packing = self.pack(tokens, eos_positions, lengths)
        return packing.of_batch(self.ln_final(self.transformer(x, adapters, packing.last, packing)))
