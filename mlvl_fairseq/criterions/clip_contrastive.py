"""Contrastive training of a dual encoder (Radford et al. 2021)."""

from fairseq.criterions import register_criterion
from fairseq.dataclass import FairseqDataclass

from mlvl_fairseq.criterions.base import Criterion, Needs, Term
from mlvl_fairseq.losses import contrastive_loss


@register_criterion("clip_contrastive", dataclass=FairseqDataclass)
class ClipContrastiveCriterion(Criterion):
    """Symmetric contrastive loss between captions and images, over the rows of all ranks, with the model's temperature.

    Captions of the same image are positives of each other, so a batch may hold an image more than once.
    """

    needs = Needs(
        task={"trains_image_tower": "images to encode while it trains"},
        batch=("image_features", "image_ids"),
        model=("temperature",),
        outputs=("text", "image"),
    )
    logs = ()

    def terms(self, model, features, sample):
        loss = contrastive_loss(
            features["text"],
            features["image"],
            model.temperature,
            sample["image_ids"],
            gather=self.training,
            valid=sample.get("counts"),
        )
        return {"contrastive": Term(1.0, loss)}

    def logged(self, features, terms):
        """Nothing: the loss is its only term."""
        return {}
