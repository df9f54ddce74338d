"""AdamW whose embedding rows can each have a scale of their own: the optimizer of TEIR (Yang et al. 2024, 3.4)."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Callable, List, Optional, Tuple

import torch
from fairseq.dataclass import FairseqDataclass
from fairseq.optim import FairseqOptimizer, register_optimizer
from omegaconf import II
from torch import Tensor
from torch.optim.adamw import adamw

from mlvl_fairseq.errors import UserError


@dataclass
class RowScales:
    """What a row-scaled parameter [V, d] does with its update; each scale is float [V], None: 1 everywhere.

    Attributes:
        gradient: multiplies the gradient before Adam's moments.
        update: multiplies the step after Adam's normalisation (and not the moments).
        decay: multiplies the weight decay.
        decay_idle: called at every update with the factor by which rows decay that are kept elsewhere and do not train
            (:meth:`ExpandableEmbedding.decay_idle`); not with `decay` scales, which leave such rows alone.
    """

    gradient: Optional[Tensor] = None
    update: Optional[Tensor] = None
    decay: Optional[Tensor] = None
    decay_idle: Optional[Callable[[float], None]] = None

    @cached_property
    def active_rows(self) -> Optional[Tensor]:
        """int64: the rows whose step can differ from 0; None: most of them, picking them out would not pay."""
        scale = self.gradient if self.update is None else self.update
        rows = None if scale is None else scale.nonzero().squeeze(1)
        return None if rows is None or 2 * len(rows) > len(scale) else rows

    @cached_property
    def decayed_rows(self) -> Optional[Tensor]:
        """int64: the rows that decay; None: most of them."""
        rows = None if self.decay is None else self.decay.nonzero().squeeze(1)
        return None if rows is None or 2 * len(rows) > len(self.decay) else rows

    def to(self, device) -> "RowScales":
        """These scales on a device."""
        scales = (self.gradient, self.update, self.decay)
        return RowScales(*(scale if scale is None else scale.to(device) for scale in scales), self.decay_idle)


def set_row_scales(parameter: torch.nn.Parameter, scales: RowScales) -> None:
    """Attach scales to a parameter. ``optim_overrides`` is the attribute that fairseq copies to its fp32 copies."""
    parameter.optim_overrides = {"row_scales": scales}


def get_row_scales(parameter: torch.nn.Parameter) -> Optional[RowScales]:
    return getattr(parameter, "optim_overrides", {}).get("row_scales")


def has_row_scales(optimizer: torch.optim.Optimizer) -> bool:
    """Does this optimizer know row scales, and did they reach one of its parameters?"""
    parameters = (parameter for group in optimizer.param_groups for parameter in group["params"])
    return isinstance(optimizer, RowAdamW) and any(map(get_row_scales, parameters))


@dataclass
class RowAdamWConfig(FairseqDataclass):
    adam_betas: str = field(default="(0.9, 0.999)", metadata={"help": "betas of Adam, e.g. '(0.9, 0.999)'"})
    adam_eps: float = field(default=1e-6, metadata={"help": "epsilon of Adam"})
    weight_decay: float = field(
        default=0.05, metadata={"help": "decoupled weight decay of parameters with two or more dimensions"}
    )
    lr: List[float] = II("optimization.lr")


def parse_betas(text: str) -> Tuple[float, float]:
    """Adam's betas as options write them: ``"(0.9, 0.999)"`` -> (0.9, 0.999).

    Raises:
        UserError: these are not two numbers of at least 0 and less than 1.
    """
    try:
        first, second = (float(beta) for beta in text.strip("()[] ").split(","))
    except ValueError:
        first = second = -1.0
    if not (0 <= first < 1 and 0 <= second < 1):
        raise UserError(f"betas '{text}' are not two numbers from 0 to below 1, such as '(0.9, 0.999)'")
    return first, second


@register_optimizer("row_adamw", dataclass=RowAdamWConfig)
class FairseqRowAdamW(FairseqOptimizer):
    """fairseq's wrapper of :class:`RowAdamW`. Decay spares vectors and scalars (biases, norms, temperatures)."""

    def __init__(self, cfg: RowAdamWConfig, params):
        super().__init__(cfg)
        self._optimizer = RowAdamW(params, **self.optimizer_config)

    @property
    def optimizer_config(self):
        return {
            "lr": self.cfg.lr[0],
            "betas": parse_betas(self.cfg.adam_betas),
            "eps": self.cfg.adam_eps,
            "weight_decay": self.cfg.weight_decay,
        }


class RowAdamW(torch.optim.Optimizer):
    """AdamW. A parameter with :class:`RowScales` is updated in the order of Yang et al. 2024, section 3.4:

    1. decay ``p *= 1 - lr * weight_decay * decay``; 2. ``grad *= gradient``; 3. Adam's moments and bias correction;
    4. ``p -= lr * update * m / (sqrt(v) + eps)``.

    Rows whose gradient or update scale is 0 never move but for their decay, so their moments are neither kept nor
    computed: state and time follow the number of the language's tokens, not of the vocabulary.

    Attributes:
        moments: which of several states of Adam the next step uses and changes: moments, and a count of steps.
    """

    moments = 0

    def __init__(self, params, lr: float, betas=(0.9, 0.999), eps: float = 1e-6, weight_decay: float = 0.05):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})
        self._row_scales = {}

    @torch.no_grad()
    def step(self, closure=None):
        """Update every parameter that has a gradient. Raises UserError: row scales or their state do not fit."""
        loss = closure() if closure is not None else None
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step_parameter(parameter, group)
        return loss

    def _step_parameter(self, parameter, group) -> None:
        state = self.state[parameter]
        if self.moments:
            state = state.setdefault(f"moments_{self.moments}", {})
        scales = self._scales(parameter)
        rows = scales.active_rows
        shape = parameter.shape if rows is None else (len(rows), *parameter.shape[1:])
        if "step" not in state:
            state["step"] = torch.zeros((), device=parameter.device)
            state["exp_avg"] = torch.zeros(shape, dtype=torch.float32, device=parameter.device)
            state["exp_avg_sq"] = torch.zeros_like(state["exp_avg"])
        elif state["exp_avg"].shape != shape:  # the fused step would write past its end
            raise UserError("the optimizer state in the checkpoint belongs to other training captions or row scales")
        if parameter.dim() > 1:
            _decay(parameter, group["lr"] * group["weight_decay"], scales)
        target, gradient = parameter, parameter.grad
        if rows is not None:
            gradient = gradient.index_select(0, rows).float()
        if scales.gradient is not None:
            gradient = gradient * _column(scales.gradient, rows, gradient)
        if rows is not None or scales.update is not None:
            target = torch.zeros_like(gradient)
        _adam_step(target, gradient, state, group)
        if scales.update is not None:
            target *= _column(scales.update, rows, target)
        if rows is not None:
            parameter.index_add_(0, rows, target.to(parameter.dtype))
        elif target is not parameter:
            parameter += target

    def _scales(self, parameter) -> RowScales:
        """The parameter's scales on its device; none attached: scales of 1."""
        if parameter not in self._row_scales:
            scales = get_row_scales(parameter) or RowScales()
            for scale in (scales.gradient, scales.update, scales.decay):
                if scale is not None and len(scale) != len(parameter):
                    raise UserError(f"{len(scale)} row scales for {len(parameter)} rows")
            self._row_scales[parameter] = scales.to(parameter.device)
        return self._row_scales[parameter]


def _adam_step(target: Tensor, gradient: Tensor, state: dict, group: dict) -> None:
    """Add Adam's step to `target` and update the moments; fused, so that memory is passed over once, not ten times."""
    first, second = group["betas"]
    adamw(
        [target],
        [gradient],
        [state["exp_avg"]],
        [state["exp_avg_sq"]],
        [],
        [state["step"]],
        fused=target.dtype == torch.float32,
        amsgrad=False,
        maximize=False,
        beta1=first,
        beta2=second,
        lr=group["lr"],
        weight_decay=0.0,
        eps=group["eps"],
    )


def _decay(parameter: Tensor, rate: float, scales: RowScales) -> None:
    if rate == 0:
        return
    rows = scales.decayed_rows
    if scales.decay is None:
        parameter.mul_(1 - rate)
        if scales.decay_idle is not None:
            scales.decay_idle(1 - rate)
    elif rows is None:
        parameter.mul_(1 - rate * _column(scales.decay, None, parameter))
    else:
        factor = 1 - rate * _column(scales.decay, rows, parameter)
        parameter.index_copy_(0, rows, parameter.index_select(0, rows) * factor)


def _column(scale: Tensor, rows: Optional[Tensor], like: Tensor) -> Tensor:
    """The scales of `rows` (None: of all) as [R, 1, ...] with as many dimensions as `like`."""
    scale = scale if rows is None else scale[rows]
    return scale.view(-1, *[1] * (like.dim() - 1))
