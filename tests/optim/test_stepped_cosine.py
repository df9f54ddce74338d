"""The schedule of LilT at every update, through fairseq's own builders, against the published code's change points."""

import json
import math

import pytest
import torch
from fairseq.optim.lr_scheduler import build_lr_scheduler
from golden import load_golden
from omegaconf import OmegaConf

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.optim.grouped_adamw import FairseqGroupedAdamW, GroupedAdamWConfig
from mlvl_fairseq.optim.stepped_cosine import SteppedCosineConfig

SCHEDULES = load_golden("lilt_training")["lr_schedule"]  # by iterations per epoch


def new_schedule(lr=(1e-4,), max_epoch=15, **options):
    lr = list(lr)
    optimizer = FairseqGroupedAdamW(GroupedAdamWConfig(lr=lr), [torch.nn.Parameter(torch.ones(1))])
    cfg = OmegaConf.structured(SteppedCosineConfig(lr=lr, max_epoch=max_epoch, **options))
    OmegaConf.set_struct(cfg, False)
    cfg._name = "stepped_cosine"
    return build_lr_scheduler(cfg, optimizer), optimizer


def rates(per_epoch, epochs, start=0):
    """(epoch, iteration, rate) of each update from `start` on, as fairseq's trainer asks for it."""
    schedule, optimizer = new_schedule()
    for epoch in range(start // per_epoch, epochs):
        schedule.step_begin_epoch(epoch + 1)
        schedule.step_update(max(start, epoch * per_epoch))
        for update in range(max(start, epoch * per_epoch), (epoch + 1) * per_epoch):
            yield epoch, update - epoch * per_epoch, optimizer.get_lr()
            assert schedule.step_update(update + 1) == optimizer.get_lr()
        schedule.step(epoch + 1, 1.0)  # validation
        schedule.step_update((epoch + 1) * per_epoch)


def changes(rates):
    found = []
    for epoch, iteration, rate in rates:
        if not found or rate != found[-1][2]:
            found.append([epoch, iteration, rate])
    return found


@pytest.mark.parametrize("per_epoch", [1500, 250, 50])
def test_every_change_of_the_reference_and_no_other(per_epoch):
    found, expected = changes(rates(per_epoch, 15)), SCHEDULES[str(per_epoch)]
    assert [row[:2] for row in found] == [row[:2] for row in expected]
    assert max(abs(own[2] - other[2]) for own, other in zip(found, expected)) < 1e-12 * 1e-4


@pytest.mark.parametrize("start", [0, 101, 777, 1000, 1001, 1500, 2700])
def test_a_run_that_is_resumed_within_an_epoch_has_the_rates_of_a_whole_one(start):
    assert list(rates(1500, 3, start)) == list(rates(1500, 3))[start:]


def test_without_a_warm_up_the_first_epoch_is_at_the_peak():
    schedule, optimizer = new_schedule(warmup_blocks=0, min_lr=0.0)
    assert optimizer.get_lr() == 1e-4 and schedule.step_update(5000) == 1e-4
    schedule.step_begin_epoch(16)  # more epochs than there should be
    assert schedule.step_update(9000) == 0
    schedule.step_begin_epoch(2)
    assert schedule.step_update(9000) == pytest.approx(0.5e-4 * (1 + math.cos(math.pi / 15)), rel=1e-12)


def test_two_blocks_of_three():
    schedule, _ = new_schedule(lr=[3.0], warmup_blocks=2, warmup_block_updates=3, warmup_init_lr=1.0)
    assert [schedule.step_update(update) for update in range(9)] == [1, 1, 1, 1, 2, 2, 2, 3, 3]


def test_its_state_is_what_json_can_hold():
    schedule, _ = new_schedule()
    schedule.step(1, 0.5)
    assert json.loads(json.dumps(schedule.state_dict())) == {"best": 0.5}


@pytest.mark.parametrize(
    "options, message",
    [
        ({"max_epoch": 0}, "--lr-scheduler stepped_cosine goes down until --max-epoch: give one"),
        ({"lr": (1e-4, 1e-5)}, "--lr-scheduler stepped_cosine has one --lr, not 2"),
        ({"min_lr": 1e-3}, "--min-lr 0.001 is not a number of at least 0 and at most 0.0001"),
        ({"warmup_init_lr": 1e-3}, "--warmup-init-lr 0.001 is not a number of at least 0 and at most 0.0001"),
        ({"warmup_blocks": -1}, "--warmup-blocks -1 is not a number of at least 0"),
        ({"warmup_block_updates": 0}, "--warmup-block-updates 0 is not a number of at least 1"),
    ],
)
def test_what_is_no_schedule(options, message):
    with pytest.raises(UserError) as raised:
        new_schedule(**options)
    assert str(raised.value) == message
