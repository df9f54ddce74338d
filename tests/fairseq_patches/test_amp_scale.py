from argparse import Namespace
from functools import partial

import pytest
import torch
from fairseq.optim import AMPOptimizer
from omegaconf import OmegaConf

from mlvl_fairseq.optim.grouped_adamw import GroupedAdamWConfig
from mlvl_fairseq.optim.row_adamw import RowAdamWConfig

FACTOR = 3e-5  # not much more than epsilon


@pytest.mark.parametrize("name, options", [("grouped_adamw", GroupedAdamWConfig), ("row_adamw", RowAdamWConfig)])
@pytest.mark.parametrize("clip, gradient", [(0.0, FACTOR), (FACTOR, FACTOR / 2)])
def test_gradients_are_unscaled_once(name, options, clip, gradient, monkeypatch):
    """Scaling works on a CPU where torch is told to; fairseq asks for the one of GPUs."""
    monkeypatch.setattr(torch.cuda.amp, "GradScaler", partial(torch.amp.GradScaler, "cpu"))
    cfg = OmegaConf.structured(options(lr=[0.1]))
    OmegaConf.set_struct(cfg, False)
    cfg._name = name
    common = Namespace(fp16_init_scale=128.0, min_loss_scale=1e-4)
    weight = torch.nn.Parameter(torch.ones(2, 2))
    optimizer = AMPOptimizer.build_optimizer(Namespace(optimizer=cfg, common=common), [weight])
    optimizer.backward((FACTOR * weight).sum())
    assert float(weight.grad[0, 0]) == pytest.approx(128 * FACTOR)
    assert float(optimizer.clip_grad_norm(clip)) == pytest.approx(2 * FACTOR)
    optimizer.step()
    mean = optimizer.optimizer.state[weight]["exp_avg"]
    tolerance = 0.02 if clip else 1e-5  # torch adds 1e-6 to the norm that it clips
    torch.testing.assert_close(mean, torch.full((2, 2), 0.1 * gradient), rtol=tolerance, atol=0)


def test_a_step_with_gradients_that_are_not_finite_is_left_out(monkeypatch):
    monkeypatch.setattr(torch.cuda.amp, "GradScaler", partial(torch.amp.GradScaler, "cpu"))
    cfg = OmegaConf.structured(GroupedAdamWConfig(lr=[0.1]))
    OmegaConf.set_struct(cfg, False)
    cfg._name = "grouped_adamw"
    common = Namespace(fp16_init_scale=128.0, min_loss_scale=1e-4)
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = AMPOptimizer.build_optimizer(Namespace(optimizer=cfg, common=common), [weight])
    optimizer.backward((weight * float("inf")).sum())
    optimizer.clip_grad_norm(0.0)
    optimizer.step()
    assert weight.tolist() == [1, 1] and optimizer.scaler.get_scale() == 64
