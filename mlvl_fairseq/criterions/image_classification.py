"""Cross-entropy of classes: of images, or of texts beside images."""

from dataclasses import dataclass, field

import torch.nn.functional as F
from fairseq.criterions import register_criterion
from fairseq.dataclass import FairseqDataclass

from mlvl_fairseq.criterions.base import Criterion, Needs, Term
from mlvl_fairseq.options import check_number


@dataclass
class ImageClassificationConfig(FairseqDataclass):
    label_smoothing: float = field(
        default=0.0, metadata={"help": "share of the target that all classes get alike (DeiT: 0.1)"}
    )


@register_criterion("image_classification", dataclass=ImageClassificationConfig)
class ImageClassificationCriterion(Criterion):
    """Mean over rows of the cross-entropy; validation also logs the accuracy, in %.

    Raises:
        UserError: no share of a target.
    """

    needs = Needs(task={"classes": "classes"}, batch=("labels",), outputs=("logits",))
    logs = ("accuracy",)

    def __init__(self, cfg: ImageClassificationConfig, task):
        check_number(cfg, "label_smoothing", most=1.0)
        super().__init__(cfg, task)

    def features(self, model, sample):
        return model(**sample["net_input"])

    def terms(self, model, features, sample):
        logits, labels = features["logits"].float(), sample["labels"]
        rows = F.cross_entropy(logits, labels, reduction="none", label_smoothing=self.cfg.label_smoothing)
        right = 100.0 * (logits.detach().argmax(1) == labels)
        counts = sample.get("counts")
        if counts is not None:
            rows, right = rows * counts, right * counts
        return {"cross_entropy": Term(1.0, rows.sum()), "accuracy": Term(0.0, right.sum())}

    def logged(self, features, terms):
        return {"accuracy": terms["accuracy"].value}
