"""Synaptic intelligence (Zenke et al. 2017)."""

from dataclasses import dataclass, field

import torch

from mlvl_fairseq.continual.plugin import register_plugin
from mlvl_fairseq.continual.plugins.quadratic_penalty import QuadraticPenalty
from mlvl_fairseq.options import check_number


@dataclass
class SiOptions:
    si_scale: float = field(default=0.0, metadata={"help": "weight c of synaptic intelligence's penalty; 0: off"})
    si_damping: float = field(
        default=1e-3, metadata={"help": "xi: keeps the importance of parameters that hardly moved finite"}
    )


@register_plugin("si", SiOptions)
class Si(QuadraticPenalty):
    """Importance: how much of the loss each parameter's own path has taken away,
    ``sum over languages max(0, -sum over updates gradient * step) / (distance^2 + xi)`` (equations 3 to 5).

    The gradient is the one that the optimizer gets: of the whole loss, the penalty on earlier languages and what other
    methods add included, averaged over the captions of all ranks and clipped, before row scales (TEIR). In the paper it
    is that of the task's own loss L, neither clipped nor with the penalty (the surrogate loss has both); step is what
    the optimizer did in both. CLL-CLIP's code has no SI. Buffers ``path/<parameter>`` are added.
    """

    switches = {"si_scale": 0}

    def __init__(self, cfg, task):
        super().__init__(cfg, task)
        check_number(cfg, "si_damping", above=True)

    @property
    def scale(self) -> float:
        return self.cfg.si_scale

    def importance_of_previous(self, task, model, parameters):
        """From the path and the starting point that the previous language left in the buffers."""
        importance = []
        for name, parameter in model.shared_parameters():
            path, start = self.get("path", name), self.get("anchor", name)
            own = torch.zeros_like(parameter, dtype=torch.float32)
            if path is not None:
                moved = parameter.detach()[: len(start)].float() - start
                own[: len(start)] = path.clamp(min=0) / (moved**2 + self.cfg.si_damping)
                self.set("path", name, torch.zeros_like(own))
            importance.append(own)
        return importance

    def begin_run(self, task, model) -> None:
        for name, parameter in model.shared_parameters():
            if self.get("path", name) is None:
                self.set("path", name, torch.zeros_like(parameter, dtype=torch.float32))
                self.set("anchor", name, parameter.detach().float().clone())

    @torch.no_grad()
    def before_step(self, model) -> None:
        self._before = [
            (name, parameter.grad.float().clone(), parameter.detach().float().clone())
            for name, parameter in model.shared_parameters()
            if parameter.grad is not None
        ]

    @torch.no_grad()
    def after_step(self, model) -> None:
        parameters = dict(model.named_parameters())
        for name, gradient, before in self._before:
            self.get("path", name).sub_(gradient * (parameters[name].float() - before))
        del self._before
