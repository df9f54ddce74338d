"""The text encoder of CCLM (Zeng et al. 2023, section 3.1): the first half of every second layer of an XLM-R. The other
half is the fusion encoder, see :mod:`mlvl_fairseq.modules.fusion`."""

from dataclasses import dataclass
from typing import ClassVar, Optional

from mlvl_fairseq.modules.towers.base import register_text_tower
from mlvl_fairseq.modules.towers.bert import BertConfig, BertTower


@register_text_tower(
    {
        "cclm_xlmr_large": {},
        "cclm_xlmr_base": {"width": 768, "heads": 12},
        "cclm_xlmr_nano": {"width": 128, "layers": 3, "heads": 4, "max_positions": 80},
    }
)
@dataclass(frozen=True)
class CclmTextConfig(BertConfig):
    """Dimensions: an XLM-R whose positions are counted from row 0 of its table, and whose one token type is a parameter
    of its own, as published."""

    vocab_size: int = 250_002
    width: int = 1024
    layers: int = 6
    heads: int = 16
    ffn_width: Optional[int] = None
    max_positions: int = 514
    norm_eps: float = 1e-5
    token_types: str = "keep"
    pad: ClassVar[int] = 1

    def build(self) -> "CclmTextTower":
        return CclmTextTower(self)


class CclmTextTower(BertTower):
    """See :class:`CclmTextConfig`; ``<s> ... </s>`` of SentencePiece's pieces, the vector is the state of ``<s>``."""

    tokenizer = "sentencepiece"
