"""Contrastive training of a dual encoder (Radford et al. 2021)."""

from dataclasses import dataclass, field

from fairseq.criterions import register_criterion
from fairseq.dataclass import ChoiceEnum, FairseqDataclass

from mlvl_fairseq.criterions.base import Criterion, Needs, Term
from mlvl_fairseq.losses import POSITIVES, contrastive_loss


@dataclass
class ClipContrastiveConfig(FairseqDataclass):
    negatives: ChoiceEnum(["gather", "local"]) = field(
        default="gather",
        metadata={
            "help": "gather: contrast with the rows of all ranks, with gradients, as one process with the whole batch "
            "would; local: every rank with its own rows, gradients averaged over ranks (as published for LilT)"
        },
    )
    positives: ChoiceEnum(sorted(POSITIVES)) = field(
        default="mean",
        metadata={
            "help": "captions of one image in a batch: mean, positives with weights that add up to 1; sum, positives "
            "with weight 1 each; masked, neither positives nor negatives of each other's images; diagonal, negatives "
            "(as published for CLIP and LilT)"
        },
    )


@register_criterion("clip_contrastive", dataclass=ClipContrastiveConfig)
class ClipContrastiveCriterion(Criterion):
    """Symmetric contrastive loss between captions and images, with the model's temperature, in float32.

    By default over the rows of all ranks, and captions of the same image are positives of each other, so a batch may
    hold an image more than once.
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
            gather=self.training and str(self.cfg.negatives) == "gather",
            positives=str(self.cfg.positives),
            valid=sample.get("counts"),
        )
        return {"contrastive": Term(1.0, loss)}

    def logged(self, features, terms):
        """Nothing: the loss is its only term."""
        return {}
