"""Which class a text beside its image, or its images, is of: entailment (XVNLI), truth (NLVR2, MaRVL)."""

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.modules.heads import MlpHead
from mlvl_fairseq.networks.cclm_heads.base import Head, register_head


@register_head("labels")
class Labels(Head):
    """``run`` gives ``logits`` [B, classes] of the state of ``<s>``."""

    attribute, rank, several_images = "cls_head", 3, True

    def build(self, text, options, fusion_layers):
        if options.num_labels < 2:
            raise UserError(f"--heads labels has two classes at least, and --num-labels is {options.num_labels}")
        return MlpHead(text.width, options.num_labels)

    def run(self, network, text, image):
        return {"logits": network.cls_head(network.first_states(text, image))}
