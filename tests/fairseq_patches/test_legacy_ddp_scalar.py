"""Two ranks are played by an all_reduce that adds another rank's gradient."""

import pytest
import torch
from fairseq.distributed import LegacyDistributedDataParallel, utils


class Criterion(torch.nn.Module):
    def __init__(self, *shapes):
        super().__init__()
        self.parts = torch.nn.ParameterList([torch.nn.Parameter(torch.ones(shape)) for shape in shapes])
        self.frozen = torch.nn.Parameter(torch.ones(()), requires_grad=False)


@pytest.fixture
def parallel(monkeypatch):
    monkeypatch.setattr(utils, "get_world_size", lambda group: 2)
    monkeypatch.setattr(utils, "all_reduce", lambda gradient, group: gradient.add_(1.5))
    return lambda *shapes: LegacyDistributedDataParallel(Criterion(*shapes), process_group=None)


@pytest.mark.parametrize("shapes", [[()], [(1,)], [(), (3,)], [(), ()]])
def test_gradients_of_all_shapes_are_reduced(parallel, shapes):
    module = parallel(*shapes)
    for part in module.module.parts:
        part.grad = torch.full_like(part, 4.0)
    module.all_reduce_grads()
    for part, shape in zip(module.module.parts, shapes):
        assert part.grad.shape == shape and (part.grad == 3.5).all()  # 4 / 2 ranks, and the other's share
    assert module.module.frozen.grad is None


def test_rank_without_a_gradient_takes_part(parallel):
    module = parallel(())
    module.all_reduce_grads()
    assert module.module.parts[0].grad == 1.5


def test_nothing_is_reduced_while_gradients_accumulate(parallel):
    module = parallel(())
    module.module.parts[0].grad = torch.tensor(4.0)
    with module.no_sync():
        module.all_reduce_grads()
    assert module.module.parts[0].grad == 4.0
