"""The two sides of a network as functions of arrays, which are recorded as graphs: any number of rows, any length."""

from typing import TYPE_CHECKING, Optional

import torch
from torch import Tensor, nn

from mlvl_fairseq.export.xlmr_tower import plain_tower
from mlvl_fairseq.modules.translation import mean_pool

if TYPE_CHECKING:
    from mlvl_fairseq.inference import Encoder


class TextGraph(nn.Module):
    """Ids int32 [B, T], padded on the right, to vectors [B, embed_dim].

    Args:
        encoder: whose texts. lang: their language, where it matters.
    """

    def __init__(self, encoder: "Encoder", lang: Optional[str]):
        super().__init__()
        self.network, self.lang = encoder.network, lang
        self.pad, self.eos = encoder.tokenizer.pad, encoder.tokenizer.eos

    def forward(self, text: Tensor) -> Tensor:
        tokens = text.long()
        return self.encode(tokens, self.last(tokens))

    def last(self, tokens: Tensor) -> Tensor:
        """int64 [B], where each text ends: CLIP pads with what ends a text, others with what no text holds."""
        if self.pad == self.eos:
            return tokens.eq(self.eos).int().argmax(1)
        return tokens.ne(self.pad).long().sum(1) - 1

    def encode(self, tokens: Tensor, last: Tensor) -> Tensor:
        return self.network.encode_text(tokens, last, self.lang).vector


class TrikdTextGraph(TextGraph):
    """fairseq's XLM-R looks at the batch whether it is padded, which no graph can record: its plain tower takes its
    place."""

    def __init__(self, encoder: "Encoder", lang: Optional[str]):
        super().__init__(encoder, lang)
        self.network, self.projector = plain_tower(encoder.network.mte), encoder.network.x_projector

    def encode(self, tokens: Tensor, last: Tensor) -> Tensor:
        states = self.network(tokens, last).states
        return self.projector(states, tokens.eq(self.pad), last)


class MteTextGraph(TextGraph):
    """See :class:`TrikdTextGraph`; its vectors are mean states."""

    def __init__(self, encoder: "Encoder", lang: Optional[str]):
        super().__init__(encoder, lang)
        self.network = plain_tower(encoder.network.encoder.xlmr)

    def encode(self, tokens: Tensor, last: Tensor) -> Tensor:
        return mean_pool(self.network(tokens, last).states, tokens.ne(self.pad))


class ImageGraph(nn.Module):
    """Pictures [B, 3, H, W] to vectors [B, embed_dim]; given features [B, D], where the network takes no pictures."""

    def __init__(self, encoder: "Encoder"):
        super().__init__()
        self.network, self.takes_pictures = encoder.network, encoder.network.preprocess is not None

    def forward(self, image: Tensor) -> Tensor:
        encode = self.network.encode_image if self.takes_pictures else self.network.encode_features
        return encode(image).vector


TEXT_GRAPHS = {"trikd": TrikdTextGraph, "m2m": TrikdTextGraph, "mte": MteTextGraph}  # of other families: TextGraph


def text_graph(encoder: "Encoder", lang: Optional[str]) -> TextGraph:
    return TEXT_GRAPHS.get(encoder.family, TextGraph)(encoder, lang).eval()


def has_image_graph(encoder: "Encoder") -> bool:
    """Whether there is anything that images or given features go through."""
    return bool(encoder.network.image_side)


def example_tokens(encoder: "Encoder") -> Tensor:
    """int32 [2, 6]: two texts of different lengths."""
    pad, bos, eos = encoder.tokenizer.pad, encoder.tokenizer.bos, encoder.tokenizer.eos
    words = [5, 6, 7, 8]
    return torch.tensor([[bos, *words, eos], [bos, words[0], eos, pad, pad, pad]], dtype=torch.int32)
