"""The learning rate at every update, through fairseq's own builders."""

import pytest
import torch
from fairseq.optim.lr_scheduler import build_lr_scheduler
from golden import load_golden
from omegaconf import OmegaConf

from mlvl_fairseq.optim.row_adamw import FairseqRowAdamW, RowAdamWConfig
from mlvl_fairseq.optim.warmup_constant import WarmupConstantConfig


def rates(lr, warmup, updates):
    optimizer = FairseqRowAdamW(RowAdamWConfig(lr=[lr]), [torch.nn.Parameter(torch.ones(1))])
    cfg = OmegaConf.structured(WarmupConstantConfig(warmup_updates=warmup, lr=[lr]))
    OmegaConf.set_struct(cfg, False)
    cfg._name = "warmup_constant"
    schedule, used = build_lr_scheduler(cfg, optimizer), []
    for update in range(updates):
        assert schedule.step_begin_epoch(1 + update // 3) == optimizer.get_lr()  # a new epoch changes nothing
        used.append(optimizer.get_lr())
        assert schedule.step_update(update + 1) == optimizer.get_lr()
    return used


def test_rates_match_the_reference():
    golden = load_golden("optimizer")["schedule"]
    used = rates(5e-5, golden["warmup_steps"], len(golden["lr_used_at_step"]))
    assert used == pytest.approx(golden["lr_used_at_step"], rel=1e-9, abs=0)
    assert used[0] == 0


def test_without_warm_up_the_rate_is_constant():
    assert rates(0.1, 0, 3) == [0.1, 0.1, 0.1]


def test_a_warm_up_of_one_update_has_rate_0_once():
    assert rates(0.1, 1, 3) == [0, 0.1, 0.1]


def test_without_an_option_there_is_no_warm_up():
    assert WarmupConstantConfig().warmup_updates == 0
