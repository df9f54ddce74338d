"""Where in an image it is what a text says (X-VLM, Zeng et al. 2022)."""

from mlvl_fairseq.modules.heads import MlpHead
from mlvl_fairseq.networks.cclm_heads.base import Head, register_head


@register_head("boxes")
class Boxes(Head):
    attribute, rank, pretrains = "bbox_head", 2, True

    def build(self, text, options, fusion_layers):
        return MlpHead(text.width, 4)
