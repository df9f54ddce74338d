"""Memory aware synapses (Aljundi et al. 2018)."""

from dataclasses import dataclass, field

import torch

from mlvl_fairseq.continual.plugin import register_plugin
from mlvl_fairseq.continual.plugins.quadratic_penalty import QuadraticPenalty


@dataclass
class MasOptions:
    mas_scale: float = field(default=0.0, metadata={"help": "weight of the penalty of memory aware synapses; 0: off"})
    mas_batch_size: int = field(
        default=128, metadata={"help": "captions of which one mean gradient is taken; 1: as in the paper, slower"}
    )
    mas_batches: int = field(
        default=0, metadata={"help": "batches of the previous language to take importance from, evenly spread; 0: all"}
    )


@register_plugin("mas", MasOptions)
class Mas(QuadraticPenalty):
    """Importance: how much the features move with a parameter, ``mean over batches |gradient of mean ||h||^2|``, summed
    over languages. No label is needed (equation 3 of the paper)."""

    switches = {"mas_scale": 0}

    @property
    def scale(self) -> float:
        return self.cfg.mas_scale

    @property
    def batches(self):
        return self.cfg.mas_batches, self.cfg.mas_batch_size

    def importance_of_previous(self, task, model, parameters):
        def absolute_gradients():
            for sample in self.previous_batches(task, model, "importance of weights"):
                norm = task.criterion.features(model, sample)["text"].float().square().sum(dim=1).mean()
                yield [gradient.abs() for gradient in torch.autograd.grad(norm, parameters)]

        return self.mean(absolute_gradients(), parameters)
