"""XLM-R as an encoder (Conneau et al. 2020): RoBERTa's post-norm transformer on SentencePiece ids."""

from dataclasses import dataclass

import torch.nn as nn
from fairseq.models.transformer import TransformerConfig
from fairseq.models.transformer.transformer_config import DecoderConfig, EncDecBaseConfig, QuantNoiseConfig
from fairseq.models.transformer.transformer_encoder import TransformerEncoderBase
from torch import Tensor

from mlvl_fairseq.modules.compiling import Compilable, per_position
from mlvl_fairseq.modules.packing import Packing
from mlvl_fairseq.modules.padding import Lengths

BOS, PAD = 0, 1


@dataclass(frozen=True)
class XlmrConfig:
    """Dimensions of an encoder; the defaults of the probabilities are XLM-R's."""

    vocab_size: int
    layers: int
    width: int
    ffn_width: int
    heads: int
    max_positions: int = 512
    dropout: float = 0.1
    attention_dropout: float = 0.1
    activation_dropout: float = 0.0

    def build(self) -> "XlmrEncoder":
        return XlmrEncoder(self)

    def for_fairseq(self) -> TransformerConfig:
        """The same as fairseq's encoders take it."""
        return TransformerConfig(
            activation_fn="gelu",
            dropout=self.dropout,
            attention_dropout=self.attention_dropout,
            activation_dropout=self.activation_dropout,
            encoder=EncDecBaseConfig(
                embed_dim=self.width,
                ffn_embed_dim=self.ffn_width,
                layers=self.layers,
                attention_heads=self.heads,
                learned_pos=True,
            ),
            decoder=DecoderConfig(),  # fairseq-fixed has classes where these two have instances
            quant_noise=QuantNoiseConfig(),
            max_source_positions=self.max_positions,
            layernorm_embedding=True,
            no_scale_embedding=True,
        )


class XlmrEncoder(Compilable, TransformerEncoderBase):
    """The encoder of fairseq's `RobertaModel` without the head for masked words, drawn as BERT's.

    Its parameters have the names that follow ``encoder.sentence_encoder.`` in a `RobertaModel`.
    """

    def __init__(self, config: XlmrConfig):
        super().__init__(config.for_fairseq(), None, nn.Embedding(config.vocab_size, config.width, PAD))
        self.config = config
        self.apply(draw_as_bert)

    def forward(self, tokens: Tensor, lengths: Lengths = None) -> Tensor:
        """Ids [B, T] with ``<s>`` and ``</s>``, padded with 1 on either side -> last hidden states [B, T, width].

        fairseq's layers and weights, but padding is not computed, see :class:`Packing`. States at padding have no
        meaning. T is at most ``max_positions`` without the padding. `lengths`: int64 [B], see :class:`Packing`.
        """
        packing = Packing(tokens.ne(PAD), self.config.width, lengths)
        embedded = self.embed_tokens(packing.pack(tokens)) + self.embed_positions.weight[PAD + 1 + packing.places]
        x = self.dropout_module(self.layernorm_embedding(embedded))
        for layer in self.layers:
            attention = layer.self_attn
            parts = attention.q_proj(x), attention.k_proj(x), attention.v_proj(x)
            dropout = self.config.attention_dropout if self.training else 0.0
            x = self._finish(layer, x, packing.attend(*parts, self.config.heads, dropout=dropout))
        return packing.unpack(x)

    @per_position
    def _finish(self, layer: nn.Module, x: Tensor, mixed: Tensor) -> Tensor:
        x = layer.self_attn_layer_norm(x + layer.dropout_module(layer.self_attn.out_proj(mixed)))
        inner = layer.activation_dropout_module(layer.activation_fn(layer.fc1(x)))
        return layer.final_layer_norm(x + layer.dropout_module(layer.fc2(inner)))


def draw_as_bert(module: nn.Module) -> None:
    """For ``nn.Module.apply``: weights from N(0, 0.02), biases and the row of the padding 0 (Devlin et al. 2019)."""
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
    if isinstance(module, nn.Embedding) and module.padding_idx is not None:
        nn.init.zeros_(module.weight[module.padding_idx].data)
