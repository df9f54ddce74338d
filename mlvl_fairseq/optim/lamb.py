"""LAMB (You et al. 2020) without NVIDIA's apex, which fairseq's own ``--optimizer lamb`` needs."""

from dataclasses import dataclass, field
from typing import List, Optional

import torch
from fairseq.dataclass import FairseqDataclass
from fairseq.optim import FairseqOptimizer, register_optimizer
from omegaconf import II
from torch import Tensor

from mlvl_fairseq.optim.row_adamw import parse_betas


@dataclass
class LambConfig(FairseqDataclass):
    lamb_betas: str = field(default="(0.9, 0.999)", metadata={"help": "betas of LAMB, e.g. '(0.9, 0.999)'"})
    lamb_eps: float = field(default=1e-8, metadata={"help": "epsilon of LAMB"})
    weight_decay: float = field(default=0.01, metadata={"help": "weight decay, decoupled and within the trust ratio"})
    lamb_max_grad_norm: float = field(
        default=1.0,
        metadata={"help": "scale gradients down to this norm, of all parameters together, as apex does; 0: do not"},
    )
    lamb_spare_vectors: bool = field(
        default=False,
        metadata={
            "help": "vectors and scalars (biases, norms, temperatures) do not decay and, unless --lamb-adapt-all, have "
            "no trust ratio, as in You et al. 2020. Not given: they are treated as matrices are, as by fairseq's lamb"
        },
    )
    lamb_adapt_all: bool = field(
        default=False,
        metadata={
            "help": "a trust ratio also for parameters without weight decay (apex: use_nvlamb). Not given: those take "
            "Adam's step, which with --weight-decay 0 is all of them"
        },
    )
    lr: List[float] = II("optimization.lr")


@register_optimizer("torch_lamb", dataclass=LambConfig)
class FairseqTorchLamb(FairseqOptimizer):
    """fairseq's wrapper of :class:`Lamb`; a name of its own because fairseq has a ``lamb``."""

    def __init__(self, cfg: LambConfig, params):
        super().__init__(cfg)
        self._optimizer = Lamb(
            params,
            max_grad_norm=cfg.lamb_max_grad_norm,
            spare_vectors=cfg.lamb_spare_vectors,
            adapt_all=cfg.lamb_adapt_all,
            **self.optimizer_config,
        )

    @property
    def optimizer_config(self):
        return {
            "lr": self.cfg.lr[0],
            "betas": parse_betas(self.cfg.lamb_betas),
            "eps": self.cfg.lamb_eps,
            "weight_decay": self.cfg.weight_decay,
        }

    @property
    def supports_flat_params(self) -> bool:
        """No: a trust ratio is for one tensor. That is why ``--fp16`` wants ``--fp16-no-flatten-grads``."""
        return False


class Lamb(torch.optim.Optimizer):
    """LAMB as NVIDIA's apex computes it (FusedLAMB), on torch's multi-tensor kernels.

    For every parameter w with gradient g, after all gradients were scaled to a global norm of at most `max_grad_norm`::

        m = beta1 m + (1 - beta1) g        v = beta2 v + (1 - beta2) g^2
        u = (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps) + weight_decay * w
        w = w - lr * (|w| / |u|) * u                                              ratio 1 where |w| or |u| is 0

    Args:
        params, lr, betas, eps, weight_decay: as for torch's optimizers.
        max_grad_norm: 0: gradients are taken as they are.
        spare_vectors: parameters of fewer than two dimensions have no weight decay.
        adapt_all: a trust ratio also for parameters that have no weight decay.
    """

    def __init__(
        self,
        params,
        lr: float,
        betas=(0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        max_grad_norm: float = 1.0,
        spare_vectors: bool = False,
        adapt_all: bool = False,
    ):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})
        self.max_grad_norm, self.spare_vectors, self.adapt_all = max_grad_norm, spare_vectors, adapt_all

    @torch.no_grad()
    def step(self, closure=None):
        """Update every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        scale = self._gradient_scale()
        for group in self.param_groups:
            decayed, spared = [], []
            for parameter in group["params"]:
                if parameter.grad is not None:
                    is_spared = self.spare_vectors and parameter.dim() < 2
                    (spared if is_spared else decayed).append(parameter)
            for parameters, decay in ((decayed, group["weight_decay"]), (spared, 0.0)):
                for together in updated_together(parameters):
                    self._update(together, group, decay, scale)
        return loss

    def _gradient_scale(self) -> Optional[Tensor]:
        """At most 1, what brings the norm of all gradients to `max_grad_norm`; None: there is no such bound."""
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        if not self.max_grad_norm or not gradients:
            return None
        norm = torch.stack(torch._foreach_norm(gradients)).norm()
        return (self.max_grad_norm / norm).clamp(max=1.0)

    def _update(self, parameters: List[Tensor], group: dict, decay: float, scale: Optional[Tensor]) -> None:
        steps = self._adam_steps(parameters, group, scale)
        if decay:
            torch._foreach_add_(steps, parameters, alpha=decay)
        if decay or self.adapt_all:
            torch._foreach_mul_(steps, trust_ratios(parameters, steps))
        torch._foreach_add_(parameters, steps, alpha=-group["lr"])

    def _adam_steps(self, parameters: List[Tensor], group: dict, scale: Optional[Tensor]) -> List[Tensor]:
        """Update the moments; the directions that follow from them, corrected for their start at 0."""
        first, second = group["betas"]
        states = [self._state_of(parameter) for parameter in parameters]
        for state in states:
            state["step"] += 1
        gradients = [parameter.grad for parameter in parameters]
        if scale is not None:
            gradients = torch._foreach_mul(gradients, scale)
        means, squares = ([state[name] for state in states] for name in ("exp_avg", "exp_avg_sq"))
        torch._foreach_lerp_(means, gradients, 1 - first)
        torch._foreach_mul_(squares, second)
        torch._foreach_addcmul_(squares, gradients, gradients, value=1 - second)
        deviations = torch._foreach_div(squares, [1 - second ** state["step"] for state in states])
        torch._foreach_sqrt_(deviations)
        torch._foreach_add_(deviations, group["eps"])
        steps = torch._foreach_div(means, [1 - first ** state["step"] for state in states])
        torch._foreach_div_(steps, deviations)
        return steps

    def _state_of(self, parameter: Tensor) -> dict:
        state = self.state[parameter]
        if not state:
            state.update(step=0, exp_avg=torch.zeros_like(parameter), exp_avg_sq=torch.zeros_like(parameter))
        return state


def updated_together(parameters: List[Tensor]) -> List[List[Tensor]]:
    """On a CPU each by itself: what is computed on the way is small and stays in its caches. Else all of them."""
    if all(parameter.device.type == "cpu" for parameter in parameters):
        return [[parameter] for parameter in parameters]
    return [parameters]


def trust_ratios(parameters: List[Tensor], steps: List[Tensor]) -> List[Tensor]:
    """``|w| / |u|`` for each parameter w and its step u, scalars; 1 where either norm is 0."""
    weights, updates = (torch.stack(torch._foreach_norm(tensors)) for tensors in (parameters, steps))
    return list(torch.where((weights > 0) & (updates > 0), weights / updates, 1.0).unbind())
