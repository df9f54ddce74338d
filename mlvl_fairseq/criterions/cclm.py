"""The objective of CCLM's pre-training: contrast, matching, masked language modelling and boxes (Zeng et al. 2023,
section 3.2)."""

from dataclasses import dataclass, field
from typing import Dict, NamedTuple

import torch
from fairseq.criterions import register_criterion
from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from fairseq.logging import metrics
from omegaconf import II
from torch import Tensor

from mlvl_fairseq.criterions.base import COUNTS, Criterion, Needs, Term
from mlvl_fairseq.distributed import scale_gradient, sum_over_ranks, world_size
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.losses import POSITIVES, contrastive_loss
from mlvl_fairseq.losses.boxes import box_losses
from mlvl_fairseq.losses.masked_lm import masked_lm_loss
from mlvl_fairseq.losses.matching import matching_loss
from mlvl_fairseq.losses.sums import Summed
from mlvl_fairseq.options import check_number


def _weight(of: str):
    return field(default=1.0, metadata={"help": f"weight of {of}; 0: off"})


@dataclass
class CclmPretrainingConfig(FairseqDataclass):
    itc_weight: float = _weight("the contrastive loss of images or regions and texts")
    ttc_weight: float = _weight("the contrastive loss of texts and texts")
    itm_weight: float = _weight("matching images or regions and texts")
    ttm_weight: float = _weight("matching texts and texts")
    mlm_weight: float = _weight("masked language modelling beside the other view")
    l1_weight: float = _weight("the distance of boxes")
    giou_weight: float = _weight("1 - generalised intersection over union of boxes")
    positives: ChoiceEnum(sorted(POSITIVES)) = field(
        default="masked",
        metadata={
            "help": "rows of one thing in a batch: masked, neither positives nor negatives of each other in the "
            "contrastive losses; mean, positives with weights that add up to 1; sum, positives with weight 1 each; "
            "diagonal, negatives (as published for pre-training)"
        },
    )
    contrast_with: ChoiceEnum(["all", "rank"]) = field(
        default="all", metadata={"help": "negatives of the contrastive losses: the rows of all ranks, or of the own"}
    )
    itc_grad: ChoiceEnum(["full", "local"]) = field(
        default="full",
        metadata={
            "help": "the gradient that the contrastive losses send to the encoders: full, of the loss over the rows of "
            "all ranks; local, divided by the number of ranks, while the temperature's is whole (as published)"
        },
    )
    mean_over: ChoiceEnum(["all", "rank"]) = field(
        default="all",
        metadata={
            "help": "masked tokens, pairs and boxes count alike in the mean over: all, those of all ranks, as in one "
            "process with the whole batch; rank, those of the own rank, whose means are averaged (as published)"
        },
    )
    whole_image_boxes: bool = field(
        default=False, metadata={"help": "ask for the boxes of texts about the whole image, too"}
    )
    degenerate_boxes: ChoiceEnum(["row", "batch"]) = field(
        default="row",
        metadata={
            "help": "a box whose right or lower edge lies before the other one takes GIoU from: row, its own; batch, "
            "all of the batch (as published)"
        },
    )
    ddp_backend: str = II("distributed_training.ddp_backend")


class Names(NamedTuple):
    """What the losses of pairs are called."""

    contrastive: str
    matching: str


TEXTS, IMAGES = Names("ttc", "ttm"), Names("itc", "itm")  # by what a text's view is
DDP_BACKEND = "legacy_ddp"  # the one that lets an update leave parameters out, and losses use them beside `forward`
MEANS = ("matching", "mlm", "l1", "giou")  # means over what a batch holds differently many of than rows


@register_criterion("cclm_pretraining", dataclass=CclmPretrainingConfig)
class CclmPretrainingCriterion(Criterion):
    """The sum of what a batch of its stream asks for, summed over rows: fairseq divides by their number.

    Images and texts: ``itc + itm + mlm``, with a second caption ``(itc + itc of the second) / 2 + ttc of both``; with
    regions ``+ l1 + giou``; texts and texts: ``ttc + ttm + mlm``.

    Ranks have to be at the same stream at a time: each of them contrasts with the rows of all.
    """

    needs = Needs(
        task={"streams": "streams of pairs"},
        batch=("stream", "masked_ids"),
        model=("temperature", "lm_head"),
        outputs=("text", "image"),
    )

    def __init__(self, cfg: CclmPretrainingConfig, task):
        for option in (name for name in vars(CclmPretrainingConfig()) if name.endswith("_weight")):
            check_number(cfg, option)
        if world_size() > 1 and cfg.ddp_backend != DDP_BACKEND:
            raise UserError(
                f"--ddp-backend {cfg.ddp_backend}: a batch of texts leaves the image tower without gradients, which "
                f"it does not allow on several ranks: give --ddp-backend {DDP_BACKEND}"
            )
        super().__init__(cfg, task)

    def features(self, model, sample) -> Dict[str, Tensor]:
        return model(**sample["net_input"])

    def terms(self, model, features: Dict[str, Tensor], sample) -> Dict[str, Term]:
        """``itc``, ``ttc``, ``itm``, ``ttm``, ``mlm``, ``l1`` and ``giou``, those that the batch asks for."""
        counts = sample.get("counts")
        if counts is None:
            counts = torch.ones_like(sample["net_input"]["ids"], dtype=torch.bool)
        names = TEXTS if sample["net_input"].get("view_tokens") is not None else IMAGES
        values = self._contrasts(names, model.temperature, features, sample["net_input"]["ids"], counts)
        for name, value in self._means(self._sums(model, features, sample, counts), counts).items():
            values[names.matching if name == "matching" else name] = value
        weights = {name: getattr(self.cfg, f"{name}_weight") for name in values}
        return {name: Term(weights[name], value) for name, value in values.items() if weights[name]}

    def _contrasts(self, names: Names, temperature, features, ids: Tensor, counts: Tensor) -> Dict[str, Tensor]:
        """Contrastive losses, summed over rows."""
        gather = self.training and str(self.cfg.contrast_with) == "all"
        share = 1 / world_size() if gather and str(self.cfg.itc_grad) == "local" else 1.0
        vectors = {name: features[name] for name in ("text", "image", "second") if name in features}
        vectors = {name: scale_gradient(vector, share) for name, vector in vectors.items()}

        def contrast(one: str, other: str) -> Tensor:
            return contrastive_loss(
                vectors[one], vectors[other], temperature, ids, gather, str(self.cfg.positives), valid=counts
            )

        if "second" not in vectors:
            return {names.contrastive: contrast("text", "image")}
        both = contrast("text", "image") + contrast("second", "image")
        return {names.contrastive: both / 2, TEXTS.contrastive: contrast("text", "second")}

    def _sums(self, model, features, sample, counts: Tensor) -> Dict[str, Summed]:
        """What is averaged over something else than rows."""
        sums = {}
        if "masked" in features:
            words = model.text_encoder.embeddings.word_embeddings.weight
            states, labels = features["masked"], sample["masked_ids"]
            sums["mlm"] = masked_lm_loss(states, labels, counts, lambda x: model.lm_head(x, words), len(words))
        if "matching" in features:
            sums["matching"] = matching_loss(features["matching"], features["drawn"] & counts.repeat(3))
        if "boxes" in features:
            kept = counts if self.cfg.whole_image_boxes else counts & ~sample["whole"]
            spoils = str(self.cfg.degenerate_boxes) == "batch"
            sums.update(box_losses(features["boxes"], sample["boxes"], kept, spoils)._asdict())
        return sums

    def _means(self, sums: Dict[str, Summed], counts: Tensor) -> Dict[str, Tensor]:
        """Means times the rows of this rank, such that the sum over ranks, divided by all rows, is the mean over all
        ranks, or the mean of their means."""
        rows = counts.sum()
        if not (self.training and str(self.cfg.mean_over) == "all"):
            return {name: rows * summed.mean for name, summed in sums.items()}
        numbers = {name: sums[name].number if name in sums else torch.zeros_like(rows) for name in MEANS}
        every = torch.stack([rows, *numbers.values()])
        sum_over_ranks([every])
        of = dict(zip(MEANS, every[1:].unbind(), strict=True))
        return {name: every[0] * Summed(summed.total, of[name]).mean for name, summed in sums.items()}

    def losses(self, model, features, sample):
        """The values that are logged carry the name of the stream: ``image_itc``."""
        loss, size, log = super().losses(model, features, sample)
        shared = {*COUNTS, "loss"}
        return loss, size, {n if n in shared else f"{sample['stream']}_{n}": value for n, value in log.items()}

    @classmethod
    def reduce_metrics(cls, logging_outputs) -> None:
        """Log each value as its sum over the rows of its stream divided by their number."""
        for name in sorted({name for log in logging_outputs for name in log if name not in COUNTS}):
            having = [log for log in logging_outputs if name in log]
            rows = sum(float(log["sample_size"]) for log in having)
            total = sum(float(log[name]) for log in having)
            metrics.log_scalar(name, total / rows if rows else 0.0, rows, round=4)

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        """Those of several streams are not called the same."""
        return False
