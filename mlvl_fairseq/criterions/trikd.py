"""The objective of TriKD (Chen et al. 2023): captions against images (ITC), and against CLIP's English texts (TTC)."""

import re
from dataclasses import dataclass, field
from typing import Dict, NamedTuple, Tuple

import torch
from fairseq.criterions import register_criterion
from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from torch import Tensor

from mlvl_fairseq.criterions.base import Criterion, Needs, Term
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.losses import contrastive_loss
from mlvl_fairseq.losses.features import POSITIVES
from mlvl_fairseq.options import check_number


class LossType(NamedTuple):
    """Which terms there are, and against which captions."""

    itc: bool
    ttc: bool
    gathered: bool


def parse_loss_type(text: str) -> LossType:
    """``--loss-type`` as the published code reads it, by what is in the word: ``nott`` no TTC, ``noit`` no ITC,
    ``vanilla`` negatives of the own rank only; ``sim`` says nothing.

    Raises:
        UserError: the word has other parts, which the published code would overlook; or no term is left.
    """
    if not re.fullmatch("(sim|nott|noit|vanilla|[-_+])+", text):
        raise UserError(f"--loss-type {text}: give sim, nott, noit, vanilla or a word made of these, e.g. nottvanilla")
    parsed = LossType("noit" not in text, "nott" not in text, "vanilla" not in text)
    if not (parsed.itc or parsed.ttc):
        raise UserError(f"--loss-type {text} leaves no loss: give noit or nott, not both")
    return parsed


@dataclass
class TrikdCriterionConfig(FairseqDataclass):
    loss_type: str = field(
        default="sim",
        metadata={
            "help": "sim: ITC + TTC; a word with nott: ITC only; with noit: TTC only, with weight 1; with vanilla: as "
            "--negatives local (nottvanilla: both)"
        },
    )
    ttc_weight: float = field(default=0.1, metadata={"help": "weight of TTC beside ITC"})
    ttc_temperature: float = field(
        default=0.07,
        metadata={
            "help": "fixed temperature of TTC. 0.07 is where ITC's begins. The published code has 0.376 = 1 / ln(1 / "
            "0.07) in pre-training and 0.217 = 1 / ln(1 / 0.01) in fine-tuning, as it forgets to undo a logarithm"
        },
    )
    positives: ChoiceEnum(sorted(POSITIVES)) = field(
        default="masked",
        metadata={
            "help": "captions of one image in a batch: masked, neither positives nor negatives of each other's images; "
            "mean, positives with weights that add up to 1; sum, positives with weight 1 each (published fine-tuning); "
            "diagonal, negatives (published pre-training)"
        },
    )
    negatives: ChoiceEnum(["gathered", "local"]) = field(
        default="gathered", metadata={"help": "contrast with the captions of all ranks, or of the own one"}
    )
    non_english_ttc: ChoiceEnum(["partner", "image", "none"]) = field(
        default="partner",
        metadata={
            "help": "CLIP's side of TTC for captions in other languages than English: partner, the English caption "
            "beside them, where there is one; none: TTC with English captions only; image: their image (as published)"
        },
    )


@register_criterion("trikd", dataclass=TrikdCriterionConfig)
class TrikdCriterion(Criterion):
    """``ITC + ttc_weight * TTC``, symmetric contrastive losses in nats, summed over captions: fairseq divides by their
    number. A caption without CLIP's English features takes no part in TTC, and counts in the number."""

    needs = Needs(
        task={"langs": "languages of captions", "corpus": "corpus folder"},
        batch=("image_features", "image_ids", "lang_ids"),
        model=("temperature",),
        outputs=("text", "image"),
    )
    logs = ("itc", "ttc")

    def __init__(self, cfg: TrikdCriterionConfig, task):
        super().__init__(cfg, task)
        self.loss_type = parse_loss_type(cfg.loss_type)
        check_number(cfg, "ttc_temperature", above=True)
        check_number(cfg, "ttc_weight")
        self.gathered = self.loss_type.gathered and str(cfg.negatives) == "gathered"
        self.source = task.langs.index(task.corpus.source_lang) if task.corpus.source_lang in task.langs else -1

    def features(self, model, sample) -> Dict[str, Tensor]:
        """``text``, ``image`` and, where TTC needs it and it is there, ``english``: [B, D] each."""
        english = sample.get("text_features") if self.loss_type.ttc else None
        if self.loss_type.ttc and english is None and self.training:
            raise UserError(
                "TTC needs CLIP's features of the English captions: run mlvl-prepare CORPUS --teacher CLIP; or train "
                "without TTC, --loss-type nott"
            )
        return model(**sample["net_input"], images=sample["image_features"], english=english)

    def terms(self, model, features: Dict[str, Tensor], sample) -> Dict[str, Term]:
        """``itc`` and ``ttc``, which is logged with its weight."""
        counts = sample.get("counts", torch.ones_like(sample["id"], dtype=torch.bool))
        terms = {}
        if self.loss_type.itc:
            itc = self._contrast(features["text"], features["image"], model.temperature, sample, counts)
            terms["itc"] = Term(1.0, itc)
        if "english" in features:
            target, known = self._ttc_targets(features, sample)
            ttc = self._contrast(features["text"], target, self.cfg.ttc_temperature, sample, counts & known)
            terms["ttc"] = Term(1.0, (self.cfg.ttc_weight if self.loss_type.itc else 1.0) * ttc)
        return terms

    def _contrast(self, text: Tensor, other: Tensor, temperature, sample, valid: Tensor) -> Tensor:
        gather = self.gathered and self.training
        return contrastive_loss(
            text, other, temperature, sample["image_ids"], gather, positives=str(self.cfg.positives), valid=valid
        )

    def _ttc_targets(self, features: Dict[str, Tensor], sample) -> Tuple[Tensor, Tensor]:
        """CLIP's side of TTC [B, D], and which rows have one, bool [B]."""
        english, known = features["english"], sample["has_english"]
        if str(self.cfg.non_english_ttc) == "partner":
            return english, known
        is_english = sample["lang_ids"] == self.source
        if str(self.cfg.non_english_ttc) == "none":
            return english, known & is_english
        return torch.where(is_english[:, None], english, features["image"]), known | ~is_english
