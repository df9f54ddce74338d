"""Which of two images a text is about, or neither: what a CCLM can be trained on before MaRVL (Zeng et al. 2023)."""

import torch.nn.functional as F
from fairseq.criterions import register_criterion
from fairseq.dataclass import FairseqDataclass

from mlvl_fairseq.criterions.base import Criterion, Needs, Term
from mlvl_fairseq.errors import UserError


@register_criterion("cclm_which_image", dataclass=FairseqDataclass)
class CclmWhichImageCriterion(Criterion):
    """Mean over texts of the cross-entropy of three classes, on a stream of images; validation also logs the accuracy,
    in %. A text without another image to pair its own with counts as nothing.

    Raises:
        UserError: the stream is another one.
    """

    needs = Needs(task={"streams": "streams of pairs"}, batch=("stream",), outputs=("logits", "labels", "drawn"))
    logs = ("accuracy",)

    def features(self, model, sample):
        inputs = sample["net_input"]
        if sample["stream"] != "image":
            raise UserError(f"--criterion cclm_which_image: a stream of kind {sample['stream']} has no two images")
        given = {name: inputs.get(name) for name in ("tokens", "eos_positions", "lengths", "images", "ids")}
        return model(**given, head="which_image")

    def terms(self, model, features, sample):
        logits, labels, counts = features["logits"].float(), features["labels"], features["drawn"]
        if sample.get("counts") is not None:
            counts = counts & sample["counts"].bool()
        rows = F.cross_entropy(logits, labels, reduction="none") * counts
        right = 100.0 * (logits.detach().argmax(1) == labels) * counts
        return {"cross_entropy": Term(1.0, rows.sum()), "accuracy": Term(0.0, right.sum())}
