"""The objective of CLL-CLIP: cross-lingual distillation and cross-modal contrast (Yang et al. 2024, section 3.3)."""

from dataclasses import dataclass, field

import torch
from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.dataclass import FairseqDataclass

from mlvl_fairseq.criterions.reporting import log_losses
from mlvl_fairseq.losses import contrastive_loss, feature_mse

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.001, 0.5


@dataclass
class CllClipCriterionConfig(FairseqDataclass):
    cross_lingual_scale: float = field(
        default=1.0, metadata={"help": "weight of the MSE between caption and the teacher's English features; 0: off"}
    )
    cross_modal_scale: float = field(
        default=0.01, metadata={"help": "weight of the contrastive loss between captions and images; 0: off"}
    )
    initial_temperature: float = field(
        default=0.07, metadata={"help": "temperature of the contrastive loss at the start of every language (learned)"}
    )


@register_criterion("cll_clip", dataclass=CllClipCriterionConfig)
class CllClipCriterion(FairseqCriterion):
    """``cross_lingual_scale * MSE(h, e) + cross_modal_scale * contrastive(h, v)`` with student features h, the
    teacher's English text features e and image features v. The temperature is learned and starts anew every language.
    """

    def __init__(self, cfg: CllClipCriterionConfig, task):
        super().__init__(task)
        self.cfg = cfg
        self.temperature = torch.nn.Parameter(
            torch.tensor(cfg.initial_temperature), requires_grad=cfg.cross_modal_scale > 0
        )
        self.register_buffer("position", torch.tensor(task.position))

    def forward(self, model, sample, reduce=True):
        return self.losses(model, self.features(model, sample), sample)

    def features(self, model, sample):
        """``text``: the student's features [B, D]; ``image``: the teacher's."""
        return {**model(**sample["net_input"]), "image": sample["image_features"]}

    def losses(self, model, features, sample):
        """Loss summed over the batch's rows, number of rows, values to log."""
        rows = sample["nsentences"]
        log = {"sample_size": rows, "nsentences": rows, "ntokens": sample["ntokens"]}
        loss = features["text"].new_zeros(())
        if self.cfg.cross_lingual_scale and "text_features" in sample:  # absent in validation sets without English
            mse = feature_mse(features["text"], sample["text_features"])
            loss, log["cross_lingual"] = loss + self.cfg.cross_lingual_scale * mse, mse.detach()
        if self.cfg.cross_modal_scale:
            with torch.no_grad():
                self.temperature.clamp_(MIN_TEMPERATURE, MAX_TEMPERATURE)
            contrast = contrastive_loss(
                features["text"], features["image"], self.temperature, sample["image_ids"], gather=self.training
            )
            loss, log["cross_modal"] = loss + self.cfg.cross_modal_scale * contrast, contrast.detach()
        return loss, rows, {**log, "loss": loss.detach()}

    def load_state_dict(self, state_dict, strict=True):
        """Resume the temperature; that of another language is not taken over (each starts anew)."""
        if int(state_dict["position"]) == int(self.position):
            super().load_state_dict(state_dict, strict)

    @classmethod
    def reduce_metrics(cls, logging_outputs) -> None:
        names = ("loss", "cross_lingual", "cross_modal")
        log_losses(logging_outputs, [name for name in names if any(name in log for log in logging_outputs)])

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        return True
