"""AdamW (Loshchilov and Hutter 2019) as torch has it, with groups of parameters that decay or not, and learn slower or
faster than others."""

import logging
from dataclasses import dataclass, field
from typing import List

import torch
from fairseq.dataclass import FairseqDataclass
from fairseq.optim import FairseqOptimizer, register_optimizer
from omegaconf import II

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.optim.groups import grouped, name_parameters
from mlvl_fairseq.optim.row_adamw import parse_betas
from mlvl_fairseq.options import check_number

logger = logging.getLogger(__name__)


@dataclass
class GroupedAdamWConfig(FairseqDataclass):
    adam_betas: str = field(default="(0.9, 0.999)", metadata={"help": "betas of Adam, e.g. '(0.9, 0.999)'"})
    adam_eps: float = field(
        default=1e-8, metadata={"help": "epsilon of Adam, added after the correction for moments that start at 0"}
    )
    weight_decay: float = field(default=0.02, metadata={"help": "decoupled weight decay, of parameters that decay"})
    weight_decay_rules: str = field(
        default="default",
        metadata={
            "help": "what decays: default, all but vectors, biases, temperatures, class tokens and tables of "
            "positions; reference, all but vectors and biases (LilT's published code); cclm, the same, no tables of "
            "positions within windows, but norms within heads (CCLM's published code); or, beginning with reference, "
            "rules on parameter names, separated by spaces: +PATTERN decays and -PATTERN does not what the regular "
            "expression finds, later rules win (write the = in --weight-decay-rules='-temp$')"
        },
    )
    lr_scales: str = field(
        default="",
        metadata={
            "help": "FACTOR:PATTERN, separated by spaces: parameters whose names the regular expression finds learn at "
            "this multiple of the learning rate, later ones win; e.g. '0.1:^text_encoder 2:_proj'"
        },
    )
    lr: List[float] = II("optimization.lr")


@register_optimizer("grouped_adamw", dataclass=GroupedAdamWConfig)
class FairseqGroupedAdamW(FairseqOptimizer):
    """torch's AdamW, a group of parameters for each decay and multiple of the learning rate
    (:mod:`mlvl_fairseq.optim.groups`).

    fairseq's own ``adam`` has one group, and adds epsilon before the correction for moments that start at 0.
    """

    def __init__(self, cfg: GroupedAdamWConfig, params):
        super().__init__(cfg)
        check_number(cfg, "weight_decay")
        check_number(cfg, "adam_eps")
        groups = grouped(params, cfg.weight_decay)
        self._optimizer = torch.optim.AdamW(groups, fused=True, **self.optimizer_config)
        self.set_lr(cfg.lr[0])
        for group in groups:
            numel, scale = sum(parameter.numel() for parameter in group["params"]), group["lr_scale"]
            logger.info(
                f"{numel:,} parameters in {len(group['params'])} tensors: weight decay {group['weight_decay']:g}"
                + (f", {scale:g} times the learning rate" if scale != 1 else "")
            )

    @classmethod
    def name_parameters(cls, cfg: GroupedAdamWConfig, parameters) -> None:
        """Prepare named parameters for their groups, before an optimizer is built of them or their copies."""
        name_parameters(parameters, cfg.weight_decay_rules, cfg.lr_scales)

    @property
    def optimizer_config(self):
        return {
            "lr": self.cfg.lr[0],
            "betas": parse_betas(self.cfg.adam_betas),
            "eps": self.cfg.adam_eps,
            "weight_decay": self.cfg.weight_decay,
        }

    @property
    def supports_flat_params(self) -> bool:
        """A flat copy of all parameters has no groups."""
        return False

    def get_lr(self) -> float:
        """The learning rate before it is multiplied."""
        group = min(self.param_groups, key=lambda group: group["lr_scale"] != 1)  # one with 1, where there is one
        return group["lr"] / group["lr_scale"] if group["lr_scale"] else self.cfg.lr[0]

    def set_lr(self, lr: float) -> None:
        for group in self.param_groups:
            group["lr"] = lr * group["lr_scale"]

    def load_state_dict(self, state_dict, optimizer_overrides=None) -> None:
        """Resume. Raises UserError: the state is of other parameters, or of other groups of them."""
        saved, own = (
            [group.get("names") for group in groups] for groups in (state_dict["param_groups"], self.param_groups)
        )
        if saved != own:
            raise UserError(
                "the optimizer state in the checkpoint is of other parameters or groups: resume with the same "
                "--weight-decay-rules and --lr-scales and the same parameters that train, or with --reset-optimizer"
            )
        super().load_state_dict(state_dict, optimizer_overrides)
