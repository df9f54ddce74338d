"""The objective of CLL-CLIP: cross-lingual distillation and cross-modal contrast (Yang et al. 2024, section 3.3)."""

from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import reduce

import torch
from fairseq.criterions import register_criterion
from fairseq.dataclass import FairseqDataclass

from mlvl_fairseq.criterions.base import Criterion, Needs, Term
from mlvl_fairseq.data.caption_dataset import join_batches
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.losses import contrastive_loss, feature_mse
from mlvl_fairseq.options import check_number

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
class CllClipCriterion(Criterion):
    """``cross_lingual_scale * MSE(h, e) + cross_modal_scale * contrastive(h, v)`` with student features h, the
    teacher's English text features e and image features v. The temperature is learned and starts anew every language.
    """

    needs = Needs(
        task={"position": "order of languages", "plugins": "methods of continual learning"},
        batch=("image_features", "image_ids"),
        outputs=("text", "image"),
    )
    logs = ("cross_lingual", "cross_modal")

    def __init__(self, cfg: CllClipCriterionConfig, task):
        super().__init__(cfg, task)
        for option in ("cross_lingual_scale", "cross_modal_scale"):
            check_number(cfg, option)
        check_number(cfg, "initial_temperature", above=True)
        if not (cfg.cross_lingual_scale or cfg.cross_modal_scale):
            raise UserError("--cross-lingual-scale 0 and --cross-modal-scale 0 leave no loss: switch one of them on")
        self.temperature = torch.nn.Parameter(
            torch.tensor(cfg.initial_temperature), requires_grad=cfg.cross_modal_scale > 0
        )
        self.previous_temperature = cfg.initial_temperature
        self.register_buffer("position", torch.tensor(task.position))

    def losses(self, model, features, sample):
        sample["text_output"] = features["text"].detach()
        loss, size, log = super().losses(model, features, sample)
        tokens = sum(batch["ntokens"] for batch in sample.get("memory", {}).values())
        return loss, size, {**log, "ntokens": log["ntokens"] + tokens}

    def features(self, model, sample):
        """``text``: the student's features [B, D]; ``image``: the teacher's; ``memory``: the student's features of the
        batches beside this one, by name; ``joined``: of all captions, which go through the model at once."""
        joined = reduce(join_batches, sample.get("memory", {}).values(), sample)
        features = {**model(**joined["net_input"]), "image": sample["image_features"]}
        return _separate({**features, "joined": features["text"]}, sample)

    def terms(self, model, features, sample):
        """Those of :meth:`base_losses` and, in training, of the plugins and of an adapter: means over rows."""
        means = self.base_losses(features, sample)
        if self.training:
            for plugin in self.task.plugins.values():
                means.update(plugin.losses(self.task.model, _separate(features, sample), sample))
            if "auxiliary_loss" in features:
                means["auxiliary"] = (1.0, features["auxiliary_loss"])
        return {name: Term(weight, sample["nsentences"] * mean) for name, (weight, mean) in means.items()}

    def base_losses(self, features, sample):
        """``cross_lingual`` and ``cross_modal``: weight and mean over rows; a term that is off is left out."""
        rows, terms = sample["nsentences"], {}
        if self.cfg.cross_lingual_scale and "text_features" in sample:  # absent in validation sets without English
            mse = feature_mse(features["text"], sample["text_features"]) / rows
            terms["cross_lingual"] = (self.cfg.cross_lingual_scale, mse)
        if self.cfg.cross_modal_scale:
            with torch.no_grad():
                self.temperature.clamp_(MIN_TEMPERATURE, MAX_TEMPERATURE)
            terms["cross_modal"] = (self.cfg.cross_modal_scale, self._cross_modal(features, sample))
        return terms

    def _cross_modal(self, features, sample):
        """Mean over the batch's rows, or what a method of replay makes of them and of its own rows."""
        stands_in = "counts" in sample  # for a missing batch: neither its rows nor those replayed with it count

        def contrast(text, image, ids, queries=None):
            valid = torch.zeros_like(ids, dtype=torch.bool) if stands_in else None
            return contrastive_loss(
                text, image, self.temperature, ids, gather=self.training, valid=valid, queries=queries
            )

        for plugin in self.task.plugins.values() if "memory" in sample else ():
            term = plugin.cross_modal(contrast, features, sample)
            if term is not None:
                return term
        return contrast(features["text"], features["image"], sample["image_ids"]) / sample["nsentences"]

    def load_state_dict(self, state_dict, strict=True):
        """Resume the temperature; that of another language is not taken over (each starts anew)."""
        if int(state_dict["position"]) == int(self.position):
            super().load_state_dict(state_dict, strict)
        else:
            self.previous_temperature = float(state_dict["temperature"])

    @contextmanager
    def at_previous_temperature(self):
        """Within this context, losses are those of validation at the temperature that the previous language reached."""
        temperature, was_training = self.temperature.item(), self.training
        self.eval()
        self.temperature.data.fill_(self.previous_temperature)
        try:
            yield
        finally:
            self.temperature.data.fill_(temperature)
            self.train(was_training)


def _separate(features, sample):
    """``text`` and ``memory`` as slices of the ``joined`` rows.

    Gradients of slices are added up in the order in which they were made: whoever makes new ones for a term of its own
    rounds as versions did that had no other, and their runs go on byte for byte.
    """
    memory = sample.get("memory")
    if not memory:
        return features
    text, *replayed = torch.split(features["joined"], [s["nsentences"] for s in (sample, *memory.values())])
    return {**features, "text": text, "memory": dict(zip(memory, replayed))}
