"""The schedule of LilT's published training: steps of 100 updates up, then one step of a cosine an epoch down."""

import math
from dataclasses import dataclass, field
from typing import List

from fairseq.dataclass import FairseqDataclass
from fairseq.optim.lr_scheduler import FairseqLRScheduler, register_lr_scheduler
from omegaconf import II

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.options import check_number


@dataclass
class SteppedCosineConfig(FairseqDataclass):
    warmup_blocks: int = field(
        default=10,
        metadata={"help": "the learning rate reaches --lr in so many steps, all in the first epoch; 0: at once"},
    )
    warmup_block_updates: int = field(default=100, metadata={"help": "updates between two steps of the warm-up"})
    warmup_init_lr: float = field(default=1e-5, metadata={"help": "learning rate at the start"})
    min_lr: float = field(default=1e-5, metadata={"help": "learning rate that the cosine reaches after --max-epoch"})
    max_epoch: int = II("optimization.max_epoch")
    lr: List[float] = II("optimization.lr")


@register_lr_scheduler("stepped_cosine", dataclass=SteppedCosineConfig)
class SteppedCosineSchedule(FairseqLRScheduler):
    """With epochs e and updates i of the first epoch counted from 0, E epochs, W blocks of n updates:

    - e = 0: ``init + k (lr - init) / W``, k = 0 for i <= n, ``ceil(i / n) - 1`` up to W for what follows; an epoch that
      is shorter cuts it off;
    - e >= 1: ``min + (lr - min) / 2 * (1 + cos(pi e / E))``, constant within the epoch.

    It follows the epoch and the number of updates alone, so that a training resumes at the rate where it stopped.

    Raises:
        UserError: there is no --max-epoch, several --lr, or rates that do not go up and down.
    """

    def __init__(self, cfg: SteppedCosineConfig, optimizer):
        super().__init__(cfg, optimizer)
        if cfg.max_epoch < 1:
            raise UserError("--lr-scheduler stepped_cosine goes down until --max-epoch: give one")
        if len(cfg.lr) != 1:
            raise UserError(f"--lr-scheduler stepped_cosine has one --lr, not {len(cfg.lr)}")
        self.peak = cfg.lr[0]
        for option in ("warmup_init_lr", "min_lr"):
            check_number(cfg, option, most=self.peak)
        check_number(cfg, "warmup_blocks")
        check_number(cfg, "warmup_block_updates", least=1)
        self.epoch = 0
        self.step_update(0)

    def step_begin_epoch(self, epoch: int) -> float:
        """`epoch` counts from 1. fairseq calls it before the first update of an epoch, and of a resumed run."""
        self.epoch = epoch - 1
        return self.optimizer.get_lr()

    def step_update(self, num_updates: int) -> float:
        """Set the rate of the update after `num_updates`."""
        self.optimizer.set_lr(self.rate(num_updates))
        return self.optimizer.get_lr()

    def rate(self, update: int) -> float:
        """The rate of an update, counted from 0, in the current epoch."""
        if self.epoch > 0:
            cosine = math.cos(math.pi * min(self.epoch / self.cfg.max_epoch, 1.0))
            return self.cfg.min_lr + 0.5 * (self.peak - self.cfg.min_lr) * (1 + cosine)
        blocks = self.cfg.warmup_blocks
        done = max(0, math.ceil(update / self.cfg.warmup_block_updates) - 1)
        if done >= blocks:
            return self.peak
        return self.cfg.warmup_init_lr + done * (self.peak - self.cfg.warmup_init_lr) / blocks
