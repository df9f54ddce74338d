"""The objective of CCLM's pre-training: contrast, matching, masked language modelling and boxes (Zeng et al. 2023,
section 3.2)."""

from dataclasses import dataclass, field
from typing import Dict, NamedTuple

from fairseq.criterions import register_criterion
from fairseq.dataclass import ChoiceEnum
from torch import Tensor

from mlvl_fairseq.criterions._pairs import PairCriterion, PairLossOptions, weight_of
from mlvl_fairseq.criterions.base import COUNTS, Needs, Term, log_mean
from mlvl_fairseq.losses.boxes import box_losses
from mlvl_fairseq.losses.masked_lm import masked_lm_loss
from mlvl_fairseq.losses.matching import matching_loss
from mlvl_fairseq.losses.sums import Summed


@dataclass
class CclmPretrainingConfig(PairLossOptions):
    itc_weight: float = weight_of("the contrastive loss of images or regions and texts")
    ttc_weight: float = weight_of("the contrastive loss of texts and texts")
    itm_weight: float = weight_of("matching images or regions and texts")
    ttm_weight: float = weight_of("matching texts and texts")
    mlm_weight: float = weight_of("masked language modelling beside the other view")
    l1_weight: float = weight_of("the distance of boxes")
    giou_weight: float = weight_of("1 - generalised intersection over union of boxes")
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


class Names(NamedTuple):
    """What the losses of pairs are called."""

    contrastive: str
    matching: str


TEXTS, IMAGES = Names("ttc", "ttm"), Names("itc", "itm")  # by what a text's view is


@register_criterion("cclm_pretraining", dataclass=CclmPretrainingConfig)
class CclmPretrainingCriterion(PairCriterion):
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
    Options = CclmPretrainingConfig
    means = ("matching", "mlm", "l1", "giou")
    leaves_out = "a batch of texts leaves the image tower without gradients"

    def features(self, model, sample) -> Dict[str, Tensor]:
        return model(**sample["net_input"])

    def terms(self, model, features: Dict[str, Tensor], sample) -> Dict[str, Term]:
        """``itc``, ``ttc``, ``itm``, ``ttm``, ``mlm``, ``l1`` and ``giou``, those that the batch asks for."""
        counts = self.counts(sample, sample["net_input"]["ids"])
        names = TEXTS if sample["net_input"].get("view_tokens") is not None else IMAGES
        values = self._contrasts(names, model.temperature, features, sample["net_input"]["ids"], counts)
        for name, value in self.means_of(self._sums(model, features, sample, counts), counts).items():
            values[names.matching if name == "matching" else name] = value
        weights = {name: getattr(self.cfg, f"{name}_weight") for name in values}
        return {name: Term(weights[name], value) for name, value in values.items() if weights[name]}

    def _contrasts(self, names: Names, temperature, features, ids: Tensor, counts: Tensor) -> Dict[str, Tensor]:
        """Contrastive losses, summed over rows."""
        vectors = {name: features[name] for name in ("text", "image", "second") if name in features}

        def contrast(one: str, other: str) -> Tensor:
            return self.contrast(vectors[one], vectors[other], temperature, ids, counts)

        if "second" not in vectors:
            return {names.contrastive: contrast("text", "image")}
        both = contrast("text", "image") + contrast("second", "image")
        return {names.contrastive: both / 2, TEXTS.contrastive: contrast("text", "second")}

    def _sums(self, model, features, sample, counts: Tensor) -> Dict[str, Summed]:
        """What is averaged over something else than rows."""
        sums = {}
        if "masked" in features:
            words = model.text_encoder.embeddings.word_embeddings.weight
            states, labels, places = features["masked"], sample["masked_ids"], sample.get("masked_places")
            sums["mlm"] = masked_lm_loss(states, labels, counts, lambda x: model.lm_head(x, words), len(words), places)
        if "matching" in features:
            sums["matching"] = matching_loss(features["matching"], features["drawn"] & counts.repeat(3))
        if "boxes" in features:
            kept = counts if self.cfg.whole_image_boxes else counts & ~sample["whole"]
            spoils = str(self.cfg.degenerate_boxes) == "batch"
            sums.update(box_losses(features["boxes"], sample["boxes"], kept, spoils)._asdict())
        return sums

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
            log_mean(having, name, "sample_size")

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        """Those of several streams are not called the same."""
        return False
