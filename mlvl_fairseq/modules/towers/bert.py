"""BERT (Devlin et al. 2019) and XLM-R (Conneau et al. 2020) as text towers, with the adapters of LilT (Khan et al.
2023, section 3) where Houlsby et al. (2019) put them.

Parameters are named as in Hugging Face's files. There is no pooler, and by default no embedding of token types: row 0
of a file's is added to its positions, see :mod:`mlvl_fairseq.checkpoints.towers.bert`.
"""

from dataclasses import dataclass
from typing import Callable, ClassVar, Dict, Optional, Tuple

import torch.nn.functional as F
from torch import Tensor, nn

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.modules.adapters.layerwise import LayerwiseAdapter
from mlvl_fairseq.modules.attention import attention
from mlvl_fairseq.modules.compiling import Compilable, per_position
from mlvl_fairseq.modules.expandable_embedding import ExpandableEmbedding
from mlvl_fairseq.modules.exporting import is_exported
from mlvl_fairseq.modules.packing import Packing
from mlvl_fairseq.modules.padding import Lengths, real_tokens
from mlvl_fairseq.modules.towers.base import Parts, TextTower, TowerOutput, register_text_tower

STD = 0.02  # of fresh weights
POOLINGS: Dict[str, Callable[[Tensor, Tensor], Tensor]] = {  # states [B, T, width], mask [B, T] -> [B, width]
    "cls": lambda states, mask: states[:, 0],
    "mean": lambda states, mask: (states * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True),
}
FIRST_TOKEN = "cls"  # the pooling that reads nothing else
TOKEN_TYPES = ("fold", "drop", "keep")


@register_text_tower(
    {
        "bert_tiny": {"width": 128, "layers": 2, "heads": 2},
        "bert_small": {"width": 512, "layers": 4, "heads": 8},
        "bert_base": {},  # SimCSE's, and the next two: the same tower in other files
        "bert_base_mlm": {},
        "bert_base_multilingual": {"vocab_size": 119_547},
        "bert_large": {"width": 1024, "layers": 24, "heads": 16},
    }
)
@dataclass(frozen=True)
class BertConfig:
    """Dimensions of a BERT.

    Attributes:
        vocab_size: rows of the word embedding; by default a published file's. width: of the states.
        layers, heads: of the transformer.
        ffn_width: inside the feed-forward layers; None: ``4 * width``. max_positions: longest text in tokens.
        dropout, attention_dropout: probabilities. norm_eps: of layer normalisation.
        pooling: a key of :data:`POOLINGS`: the first token's state, or the mean of all.
        token_types: what becomes of a file's embedding of token types: ``fold`` adds its row 0 to all positions, which
            gives BERT's own output; ``drop`` leaves it out, as LilT published it; ``keep`` has it as a parameter of
            its own, as CCLM is published, with the same output.
        first_position: row of the first token in the table of positions. pad: id of padding.
    """

    vocab_size: int = 30_522
    width: int = 768
    layers: int = 12
    heads: int = 12
    ffn_width: Optional[int] = None
    max_positions: int = 512
    dropout: float = 0.1
    attention_dropout: float = 0.1
    norm_eps: float = 1e-12
    pooling: str = FIRST_TOKEN
    token_types: str = "fold"
    first_position: ClassVar[int] = 0
    pad: ClassVar[int] = 0

    def __post_init__(self):
        if self.ffn_width is None:
            object.__setattr__(self, "ffn_width", 4 * self.width)
        for field, known in (("pooling", POOLINGS), ("token_types", TOKEN_TYPES)):
            if getattr(self, field) not in known:
                raise UserError(f"{field} '{getattr(self, field)}' of a text tower: there are {', '.join(known)}")

    def build(self) -> "BertTower":
        return BertTower(self)

    @property
    def position_rows(self) -> int:
        """Rows of the table of positions."""
        return self.first_position + self.max_positions


@register_text_tower({"xlmr_base": {}, "xlmr_large": {"width": 1024, "layers": 24, "heads": 16}})
@dataclass(frozen=True)
class XlmrTowerConfig(BertConfig):
    """Dimensions of an XLM-R: a BERT whose positions are counted from behind the id of padding, as in RoBERTa."""

    vocab_size: int = 250_002
    norm_eps: float = 1e-5
    first_position: ClassVar[int] = 2
    pad: ClassVar[int] = 1

    def build(self) -> "XlmrTower":
        return XlmrTower(self)


class BertTower(TextTower):
    """Post-norm transformer over ``[CLS] ... [SEP]``, whose vector is the state of ``[CLS]`` or the mean of all states.

    With `keeps_states`, states are those of all tokens. Without, and where the vector is that of the first token, the
    last layer computes nothing but it.
    """

    tokenizer = "wordpiece"
    growing_embedding = "embeddings.word_embeddings"

    def __init__(self, config: BertConfig):
        super().__init__()
        self.config, self.width = config, config.width
        self.vocab_size, self.max_length = config.vocab_size, config.max_positions
        self.reduction: Optional[int] = None
        self.embeddings = Embeddings(config)
        self.encoder = nn.Module()
        self.encoder.layer = nn.ModuleList(Layer(config) for _ in range(config.layers))

    @property
    def parts(self) -> Parts:
        return Parts(
            norm="LayerNorm",
            dense="dense",
            attention="attention",
            last=rf"^encoder\.layer\.{len(self.encoder.layer) - 1}\.",
            block=r"^encoder\.layer\.{}\.",
            adapter=r"^encoder\..*adapter",
            bias="bias",
        )

    def insert_adapters(self, reduction: int) -> None:
        self.reduction = reduction
        for layer in self.encoder.layer:
            layer.insert_adapters(reduction)

    def append_block(self) -> None:
        layer = Layer(self.config)
        if self.reduction is not None:
            layer.insert_adapters(self.reduction)
        self.encoder.layer.append(layer)

    def forward(self, tokens: Tensor, last: Tensor, lengths: Lengths = None) -> TowerOutput:
        width = tokens.shape[1]
        if width > self.max_length:
            raise ValueError(f"{width} tokens are more than the {self.max_length} positions of the text tower")
        packing = None if is_exported() else Packing.of_last(last, width, self.width, lengths)
        if packing is not None:
            x, mask, seen = self.embeddings(packing.pack(tokens), packing.places), packing.real, None
        else:
            x, mask = self.embeddings(tokens), real_tokens(last, width)
            seen = mask[:, None, None]
        first_only = self.config.pooling == FIRST_TOKEN and not self.keeps_states
        final = len(self.encoder.layer) - 1
        for number, layer in enumerate(self.encoder.layer):
            x = layer(x, seen, first_only and number == final, packing)
        if packing is not None:
            if first_only:
                return TowerOutput(packing.of_batch(x))
            x = packing.unpack(x)
        vector = POOLINGS[self.config.pooling](x, mask)
        return TowerOutput(vector, x, mask) if self.keeps_states else TowerOutput(vector)


class XlmrTower(BertTower):
    """An XLM-R: a BERT over SentencePiece's pieces, ``<s> ... </s>``."""

    tokenizer = "sentencepiece"


class Embeddings(nn.Module):
    """Ids [B, T] -> [B, T, width]: word and position, and where it is kept the one token type. The rows of words can
    grow. `places`: int64, as ids, how many tokens are before each; None: they follow each other."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.first_position = config.first_position
        self.word_embeddings = ExpandableEmbedding(config.vocab_size, config.width)
        self.position_embeddings = nn.Embedding(config.position_rows, config.width)
        self.LayerNorm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.dropout = nn.Dropout(config.dropout)
        nn.init.normal_(self.position_embeddings.weight, std=STD)
        self.token_type_embeddings: Optional[nn.Embedding] = None
        if config.token_types == "keep":
            self.token_type_embeddings = nn.Embedding(1, config.width)
            nn.init.normal_(self.token_type_embeddings.weight, std=STD)

    def forward(self, tokens: Tensor, places: Optional[Tensor] = None) -> Tensor:
        first = self.first_position
        if places is None:
            positions = self.position_embeddings.weight[first : first + tokens.shape[1]]
        else:
            positions = self.position_embeddings(first + places)
        if self.token_type_embeddings is not None:
            positions = positions + self.token_type_embeddings.weight
        return self.dropout(self.LayerNorm(self.word_embeddings(tokens) + positions))


class Layer(Compilable, nn.Module):
    """``x = LN(x + a_1(attention(x)))``, then ``LN(x + a_2(feed_forward(x)))``, with or without adapters a_1, a_2.

    [B, T, width] -> [B, T, width]; with `first_only` nothing but the first token's state: [B, 1, width]. With a packing
    [N, width] -> [N, width], and with `first_only` [B, width].
    """

    def __init__(self, config: BertConfig):
        super().__init__()
        self.attention = Attention(config)
        self.intermediate = nn.Module()
        self.intermediate.dense = new_linear(config.width, config.ffn_width)
        self.output = SubLayerOutput(config.ffn_width, config)

    def insert_adapters(self, reduction: int) -> None:
        """Fresh ones, see :meth:`Tower.insert_adapters`."""
        for output in (self.attention.output, self.output):
            output.adapter = LayerwiseAdapter(output.dense.out_features, reduction)

    def forward(
        self, x: Tensor, seen: Optional[Tensor], first_only: bool = False, packing: Optional[Packing] = None
    ) -> Tensor:
        """`seen`: bool [B, 1, 1, T], positions that are looked at; None: all."""
        return self._finish(*self.attention(x, seen, first_only, packing))

    @per_position
    def _finish(self, read: Tensor, mixed: Tensor) -> Tensor:
        x = self.attention.output(mixed, read)
        return self.output(F.gelu(self.intermediate.dense(x)), x)


class Attention(nn.Module):
    """Self-attention, and its residual and its norm."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.self = SelfAttention(config)
        self.output = SubLayerOutput(config.width, config)

    def forward(
        self, x: Tensor, seen: Optional[Tensor], first_only: bool, packing: Optional[Packing]
    ) -> Tuple[Tensor, Tensor]:
        """What is read, and what it sees: `output` makes one of them."""
        read = x
        if first_only:
            read = x[:, :1] if packing is None else x[packing.first]
        return read, self.self(read, x, seen, packing)


class SelfAttention(nn.Module):
    """Self-attention, torch's fused one."""

    def __init__(self, config: BertConfig):
        super().__init__()
        if config.heads < 1 or config.width % config.heads:
            raise UserError(f"width {config.width} is not a multiple of the number of attention heads {config.heads}")
        self.heads, self.dropout = config.heads, config.attention_dropout
        self.query, self.key, self.value = (new_linear(config.width, config.width) for _ in range(3))

    def forward(self, read: Tensor, x: Tensor, seen: Optional[Tensor], packing: Optional[Packing] = None) -> Tensor:
        """What the positions `read` [B, R, width] see of `x` [B, T, width]: [B, R, width]."""
        parts, dropout = (self.query(read), self.key(x), self.value(x)), self.dropout if self.training else 0.0
        if packing is not None:
            return packing.attend(*parts, self.heads, dropout=dropout)
        query, key, value = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in parts)
        mixed = attention(query, key, value, seen, dropout=dropout)
        return mixed.transpose(1, 2).flatten(2)


class SubLayerOutput(nn.Module):
    """``LN(x + adapter(dropout(dense(y))))`` of a sub-layer's inner states y and input x."""

    def __init__(self, inner: int, config: BertConfig):
        super().__init__()
        self.dense = new_linear(inner, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.adapter: nn.Module = nn.Identity()
        self.LayerNorm = nn.LayerNorm(config.width, eps=config.norm_eps)

    def forward(self, inner: Tensor, x: Tensor) -> Tensor:
        return self.LayerNorm(self.adapter(self.dropout(self.dense(inner))) + x)


def new_linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=STD)
    nn.init.zeros_(layer.bias)
    return layer
