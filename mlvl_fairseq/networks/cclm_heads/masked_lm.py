"""What the masked tokens of a text are (CCLM, section 3.2)."""

from mlvl_fairseq.modules.heads import LanguageModelHead
from mlvl_fairseq.networks.cclm_heads.base import Head, register_head


@register_head("masked_lm")
class MaskedLm(Head):
    attribute, rank, pretrains = "lm_head", 1, True

    def build(self, text, options, fusion_layers):
        return LanguageModelHead(text.width, text.vocab_size, text.norm_eps)
