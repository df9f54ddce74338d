"""Online elastic weight consolidation (Schwarz et al. 2018, "Progress & Compress"; oEWC in Yang et al. 2024)."""

from dataclasses import dataclass, field

import torch

from mlvl_fairseq.continual.plugin import register_plugin
from mlvl_fairseq.continual.plugins.quadratic_penalty import QuadraticPenalty


@dataclass
class OewcOptions:
    ewc_scale: float = field(
        default=0.0, metadata={"help": "weight of EWC's penalty sum F (p - p*)^2 (published: 1000); 0: off"}
    )
    ewc_gamma: float = field(
        default=1.0, metadata={"help": "what the Fisher information of earlier languages is multiplied with"}
    )
    ewc_batch_size: int = field(
        default=128,
        metadata={"help": "captions of which one squared mean gradient is taken; 1: Fisher information of samples"},
    )
    ewc_batches: int = field(
        default=0, metadata={"help": "batches of the previous language to take it from, evenly spread; 0: all"}
    )


@register_plugin("oewc", OewcOptions)
class Oewc(QuadraticPenalty):
    """Importance: the diagonal of the Fisher information, ``F <- gamma F + mean over batches (gradient of loss)^2``,
    of the previous language's training captions at the weights it has handed over, which are also the anchor."""

    switches = {"ewc_scale": 0}

    @property
    def scale(self) -> float:
        return self.cfg.ewc_scale

    @property
    def gamma(self) -> float:
        return self.cfg.ewc_gamma

    @property
    def batches(self):
        return self.cfg.ewc_batches, self.cfg.ewc_batch_size

    def importance_of_previous(self, task, model, parameters):
        def squared_gradients():
            for sample in self.previous_batches(task, model, "Fisher information"):
                terms = task.criterion.base_losses(task.criterion.features(model, sample), sample)
                loss = sum(weight * term for weight, term in terms.values())
                yield [gradient**2 for gradient in torch.autograd.grad(loss, parameters)]

        with task.criterion.at_previous_temperature():
            return self.mean(squared_gradients(), parameters)
