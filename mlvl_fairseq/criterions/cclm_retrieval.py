"""Fine-tuning of CCLM for retrieval: contrast and matching, where captions of one image are no negatives of each other
(Zeng et al. 2023, section 4.2)."""

from dataclasses import dataclass

from fairseq.criterions import register_criterion
from fairseq.dataclass import ChoiceEnum

from mlvl_fairseq.criterions._pairs import PairCriterion, PairLossOptions, positives_of, weight_of
from mlvl_fairseq.criterions.base import Needs, Term
from mlvl_fairseq.losses import POSITIVES
from mlvl_fairseq.losses.matching import matching_loss


@dataclass
class CclmRetrievalConfig(PairLossOptions):
    itc_weight: float = weight_of("the contrastive loss of images and texts")
    itm_weight: float = weight_of("matching images and texts")
    positives: ChoiceEnum(sorted(POSITIVES)) = positives_of("mean")


@register_criterion("cclm_retrieval", dataclass=CclmRetrievalConfig)
class CclmRetrievalCriterion(PairCriterion):
    """``itc + itm``, summed over rows. Captions of one image, in whatever languages, are positives of it with weights
    that add up to 1 in the contrast, and no negatives of it in matching."""

    needs = Needs(
        task={"trains_image_tower": "images to encode while it trains"},
        batch=("image_features", "image_ids"),
        model=("temperature", "itm_head"),
        outputs=("text", "image", "matching", "drawn"),
    )
    logs = ("itc", "itm")
    Options = CclmRetrievalConfig
    means = ("itm",)
    leaves_out = "heads of pre-training that are still there have no gradients"

    def features(self, model, sample):
        """``text`` and ``image`` [B, embed_dim], and logits of pairs, see
        :meth:`mlvl_fairseq.networks.cclm.CclmNetwork.pretrain`."""
        return model(**sample["net_input"], images=sample["image_features"], ids=sample["image_ids"])

    def terms(self, model, features, sample):
        ids = sample["image_ids"]
        counts = self.counts(sample, ids)
        values = {"itc": self.contrast(features["text"], features["image"], model.temperature, ids, counts)}
        pairs = matching_loss(features["matching"], features["drawn"] & counts.repeat(3))
        values.update(self.means_of({"itm": pairs}, counts))
        weights = {"itc": self.cfg.itc_weight, "itm": self.cfg.itm_weight}
        return {name: Term(weights[name], value) for name, value in values.items() if weights[name]}
