"""The two halves of mCLIP's translating encoder (Chen et al. 2023), as fairseq generates with them."""

from functools import partial
from typing import Dict, List, Optional, Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F
from fairseq.models import FairseqEncoder
from fairseq.models.transformer import TransformerConfig
from fairseq.models.transformer.transformer_config import DecoderConfig, EncDecBaseConfig, QuantNoiseConfig
from fairseq.models.transformer.transformer_decoder import TransformerDecoderBase
from torch import Tensor

from mlvl_fairseq.modules.towers.xlmr import PAD, XlmrEncoder

EncoderOut = Dict[str, List[Tensor]]


class LanguageProjections(nn.Module):
    """``count`` linear maps of one width, each chosen by a number.

    They are two tensors, weight [count, width, width] and bias [count, width], so that every update has gradients for
    all of its parameters, as data-parallel training wants it.
    """

    def __init__(self, count: int, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(count, width, width))
        self.bias = nn.Parameter(torch.zeros(count, width))
        for weight in self.weight:
            nn.init.xavier_uniform_(weight)

    def forward(self, states: Tensor, language: int) -> Tensor:
        """[..., width] -> [..., width] with the map of number `language`."""
        return F.linear(states, self.weight[language], self.bias[language])


class MteEncoder(FairseqEncoder):
    """XLM-R, and a linear map for the language to translate into, which is all that tells the decoder about it.

    Attributes:
        xlmr: the encoder that is exported. projection: maps by language id; 0 is the id of no language.
    """

    def __init__(self, xlmr: XlmrEncoder, languages: int):
        super().__init__(None)
        self.xlmr, self.projection = xlmr, LanguageProjections(languages + 1, xlmr.config.width)

    def forward(self, src_tokens: Tensor, src_lengths: Optional[Tensor], target_lang: int) -> EncoderOut:
        """Ids [B, T], padded on either side -> what fairseq's decoders attend to. Lengths are not used."""
        return self.for_decoder(src_tokens, self.projection(self.xlmr(src_tokens), target_lang))

    def for_decoder(self, tokens: Tensor, states: Tensor) -> EncoderOut:
        """States [B, T, width] in fairseq's layout."""
        return {"encoder_out": [states.transpose(0, 1)], "encoder_padding_mask": [tokens.eq(PAD)]}

    def reorder_encoder_out(self, encoder_out: EncoderOut, new_order: Tensor) -> EncoderOut:
        """Rows in another order, for beam search."""
        (states,), (mask,) = encoder_out["encoder_out"], encoder_out["encoder_padding_mask"]
        return {
            "encoder_out": [states.index_select(1, new_order)],
            "encoder_padding_mask": [mask.index_select(0, new_order)],
        }

    def max_positions(self) -> int:
        return self.xlmr.config.max_positions


class MteDecoder(TransformerDecoderBase):
    """A pre-norm transformer decoder with sinusoidal positions, between the encoder's embeddings: they are its input,
    scaled by the root of their width, and its output.

    Args:
        embedding: of the encoder; not copied.
        layers, ffn_width, heads, dropout, attention_dropout, activation_dropout: as they are called.
        max_positions: longest target.
    """

    def __init__(
        self,
        embedding: nn.Embedding,
        layers: int,
        ffn_width: int,
        heads: int,
        dropout: float = 0.1,
        attention_dropout: float = 0.1,
        activation_dropout: float = 0.0,
        max_positions: int = 512,
    ):
        width = embedding.embedding_dim
        config = TransformerConfig(
            activation_fn="gelu_accurate",
            dropout=dropout,
            attention_dropout=attention_dropout,
            activation_dropout=activation_dropout,
            encoder=EncDecBaseConfig(embed_dim=width),
            decoder=DecoderConfig(
                embed_dim=width,
                ffn_embed_dim=ffn_width,
                layers=layers,
                attention_heads=heads,
                normalize_before=True,
            ),
            quant_noise=QuantNoiseConfig(),
            max_target_positions=max_positions,
            share_decoder_input_output_embed=True,
        )
        super().__init__(config, None, embedding)
        for layer in self.layers:  # what "gelu_accurate" names, in one pass over memory
            layer.activation_fn = partial(nn.functional.gelu, approximate="tanh")


def mean_pool(states: Tensor, counts: Tensor) -> Tensor:
    """[B, T, D] -> [B, D]: the mean over the positions that count (bool [B, T])."""
    weights = counts.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1)


def sum_by_sentence(values: Tensor, places: Tensor, shape: Sequence[int]) -> Tensor:
    """Values [N] of the tokens at some places (int64 [N]) of B * T, the `shape` -> their sums [B] over each row."""
    return values.new_zeros(shape).flatten().index_copy(0, places, values).view(shape).sum(1)
