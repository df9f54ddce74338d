"""The objective of mCLIP's text encoder (Chen et al. 2023): translation, and contrast of sentences and translations."""

import math
from dataclasses import dataclass, field
from typing import Dict

import torch
from fairseq import utils
from fairseq.criterions import register_criterion
from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from fairseq.logging import metrics
from omegaconf import II
from torch import Tensor

from mlvl_fairseq.criterions.base import Criterion, Needs, Term, log_mean
from mlvl_fairseq.distributed import gather_with_grad
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.losses import contrastive_loss
from mlvl_fairseq.losses.translation import SMOOTHING, smoothed_cross_entropy
from mlvl_fairseq.options import check_number


@dataclass
class MteCriterionConfig(FairseqDataclass):
    label_smoothing: float = field(default=0.1, metadata={"help": "eps of label smoothing; 0: none"})
    smoothing_to: ChoiceEnum(sorted(SMOOTHING)) = field(
        default="others",
        metadata={
            "help": "which tokens share eps: others, all but the right one (fairseq's own criterion); all, the right "
            "one included (as published)"
        },
    )
    contrastive_lambda: float = field(
        default=2.0,
        metadata={"help": "weight of the contrastive loss; 0: off (stage 1). The published default is 3, its recipe 2"},
    )
    contrastive_temperature: float = field(default=0.1, metadata={"help": "temperature of the contrastive loss"})
    contrastive_weight: ChoiceEnum(["mean", "published"]) = field(
        default="mean",
        metadata={
            "help": "what lambda weighs: mean, the mean over sentences, beside the mean over tokens of the translation "
            "loss; published, that mean divided by the number of sentences of a rank's batch"
        },
    )
    contrastive_source: ChoiceEnum(["encoder", "projected"]) = field(
        default="encoder",
        metadata={
            "help": "vector of the source: encoder, the mean of the states that are exported; projected, of those "
            "after the map for the target's language (as published). The target's are always the encoder's"
        },
    )
    sentence_avg: bool = II("optimization.sentence_avg")


@register_criterion("mte", dataclass=MteCriterionConfig)
class MteCriterion(Criterion):
    """``NLL + lambda * CTL``: label-smoothed cross-entropy a token, and symmetric contrastive loss a sentence between
    sources and targets, with the sentences of all ranks as negatives in training, of the batch in validation.
    """

    needs = Needs(task={"language_id": "languages to translate into"}, batch=("target",), outputs=("smoothed", "nll"))
    logs = ("nll_loss", "ppl", "contrastive")

    def __init__(self, cfg: MteCriterionConfig, task):
        super().__init__(cfg, task)
        check_number(cfg, "contrastive_temperature", above=True)
        check_number(cfg, "contrastive_lambda")
        if not 0 <= cfg.label_smoothing < 1:
            raise UserError(f"--label-smoothing {cfg.label_smoothing} is not at least 0 and below 1")

    def features(self, model, sample) -> Dict[str, Tensor]:
        """``smoothed`` and ``nll`` [B], summed over the tokens of a sentence; with a contrastive loss ``source`` and
        ``target`` [B, D]."""
        return model(
            **sample["net_input"],
            target=sample["target"],
            real=sample.get("target_real"),
            lengths=sample.get("source_lengths"),
            token_losses=self.token_losses,
            sentences=str(self.cfg.contrastive_source) if self.cfg.contrastive_lambda > 0 else "",
        )

    def terms(self, model, features, sample) -> Dict[str, Term]:
        terms = {"translation": Term(1.0, features["smoothed"].sum())}
        if self.cfg.contrastive_lambda > 0:
            counts = sample.get("counts", torch.ones_like(sample["id"], dtype=torch.bool))
            weight = self.row_weight(sample, self.sample_size(sample), counts)
            terms["contrastive"] = Term(weight, self.contrast(features["source"], features["target"], counts))
        return terms

    def sample_size(self, sample) -> int:
        """Tokens; with ``--sentence-avg`` sentences."""
        return sample["nsentences"] if self.cfg.sentence_avg else sample["ntokens"]

    def logged(self, features, terms) -> Dict[str, Tensor]:
        log = {name: term.value.detach() for name, term in terms.items() if name == "contrastive"}
        return {"nll": features["nll"].sum().detach(), **log}

    def token_losses(self, logits: Tensor, target: Tensor) -> Dict[str, Tensor]:
        """``smoothed`` and ``nll`` [N] of logits [N, V] and ids [N]."""
        smoothed, nll = smoothed_cross_entropy(logits, target, self.cfg.label_smoothing, str(self.cfg.smoothing_to))
        return {"smoothed": smoothed, "nll": nll}

    def contrast(self, source: Tensor, target: Tensor, counts: Tensor) -> Tensor:
        """Contrastive loss of vectors [B, D], summed over this rank's rows that count."""
        if self.training and not source.requires_grad:
            raise UserError(
                "the contrastive loss trains nothing while the encoder is frozen: give --contrastive-lambda 0, or "
                "--train-encoder layers"
            )
        ids = torch.arange(len(source), device=source.device)
        temperature = self.cfg.contrastive_temperature
        return contrastive_loss(source, target, temperature, ids, self.training, positives="diagonal", valid=counts)

    def row_weight(self, sample: Dict, size: int, counts: Tensor) -> Tensor:
        """The weight of one row's contrastive loss, such that after fairseq has divided the sum over all ranks by all
        their `size`, it is lambda times the mean over all rows (Chen et al. 2023 as published: divided by the rows of a
        rank's batch, averaged over ranks by tokens)."""
        rows = sample["nsentences"]
        own = torch.tensor([[float(size), float(rows), sample["ntokens"] / rows]])
        own = own.to(counts.device, non_blocking=True) * counts.any()
        sizes, every_row, tokens_per_row = (gather_with_grad(own) if self.training else own).sum(0)
        share = tokens_per_row if str(self.cfg.contrastive_weight) == "published" else sizes
        return self.cfg.contrastive_lambda * share / every_row

    @classmethod
    def reduce_metrics(cls, logging_outputs) -> None:
        """``loss``, ``nll_loss`` and ``ppl`` as fairseq's translation has them; ``contrastive`` a sentence. Base 2."""
        bits = {"unit": math.log(2), "digits": 3}
        log_mean(logging_outputs, "loss", "sample_size", **bits)
        log_mean(logging_outputs, "nll", "ntokens", "nll_loss", **bits)
        metrics.log_derived("ppl", lambda meters: utils.get_perplexity(meters["nll_loss"].avg))
        if any("contrastive" in log for log in logging_outputs):
            log_mean(logging_outputs, "contrastive", "nsentences", **bits)
