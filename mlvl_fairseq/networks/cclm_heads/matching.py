"""Whether a text and its view belong together (CCLM, section 3.2)."""

from mlvl_fairseq.modules.heads import MlpHead
from mlvl_fairseq.networks.cclm_heads.base import Head, register_head


@register_head("matching")
class Matching(Head):
    attribute, rank, pretrains = "itm_head", 0, True

    def build(self, text, options, fusion_layers):
        return MlpHead(text.width, 2)
