"""Linear warm-up from 0, then a constant learning rate."""

from dataclasses import dataclass, field
from typing import List

from fairseq.dataclass import FairseqDataclass
from fairseq.optim.lr_scheduler import FairseqLRScheduler, register_lr_scheduler
from omegaconf import II


@dataclass
class WarmupConstantConfig(FairseqDataclass):
    warmup_updates: int = field(default=0, metadata={"help": "updates of the linear warm-up; the first has rate 0"})
    lr: List[float] = II("optimization.lr")


@register_lr_scheduler("warmup_constant", dataclass=WarmupConstantConfig)
class WarmupConstantSchedule(FairseqLRScheduler):
    """At update k (from 0) the rate is ``lr * min(1, k / warmup_updates)`` (Yang et al. 2024, section 4.1).

    fairseq's ``fixed`` schedule counts from 1 instead and never uses rate 0.
    """

    def __init__(self, cfg: WarmupConstantConfig, optimizer):
        super().__init__(cfg, optimizer)
        self.step_update(0)

    def step_begin_epoch(self, epoch: int) -> float:
        return self.optimizer.get_lr()

    def step_update(self, num_updates: int) -> float:
        warmup = self.cfg.warmup_updates
        self.optimizer.set_lr(self.cfg.lr[0] * (min(1.0, num_updates / warmup) if warmup > 0 else 1.0))
        return self.optimizer.get_lr()
