"""Contrastive training of a dual encoder (Radford et al. 2021)."""

from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.dataclass import FairseqDataclass

from mlvl_fairseq.criterions.reporting import log_losses
from mlvl_fairseq.losses import contrastive_loss


@register_criterion("clip_contrastive", dataclass=FairseqDataclass)
class ClipContrastiveCriterion(FairseqCriterion):
    """Symmetric contrastive loss between captions and images, over the rows of all ranks, with the model's temperature.

    Captions of the same image are positives of each other, so a batch may hold an image more than once.
    """

    def forward(self, model, sample, reduce=True):
        return self.losses(model, self.features(model, sample), sample)

    def features(self, model, sample):
        """``text`` and ``image`` features [B, D] of a batch."""
        return model(**sample["net_input"], images=sample["image_features"])

    def losses(self, model, features, sample):
        """Loss summed over the batch's rows, number of rows, values to log."""
        loss = contrastive_loss(
            features["text"], features["image"], model.temperature, sample["image_ids"], gather=self.training
        )
        rows = sample["nsentences"]
        return (
            loss,
            rows,
            {"loss": loss.detach(), "sample_size": rows, "nsentences": rows, "ntokens": sample["ntokens"]},
        )

    @classmethod
    def reduce_metrics(cls, logging_outputs) -> None:
        log_losses(logging_outputs, ["loss"])

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        return True
