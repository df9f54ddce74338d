"""What no rank has used keeps no gradient; two ranks are played by an all_reduce that adds what the other one has."""

import pytest
import torch
from fairseq.distributed import LegacyDistributedDataParallel, utils

SIZE = 5  # of a parameter; there are two


@pytest.fixture
def reduced(monkeypatch):
    """``reduced(own, others)``: gradients after reduction of parameters that a rank uses and the other one does."""

    def run(own, others):
        def all_reduce(tensor, group):
            if len(tensor) == 2:  # who has used what
                tensor.add_(torch.tensor(others, dtype=tensor.dtype))
            else:
                tensor[: 2 * SIZE].add_(torch.tensor(others, dtype=tensor.dtype).repeat_interleave(SIZE), alpha=1.5)

        monkeypatch.setattr(utils, "get_world_size", lambda group: 2)
        monkeypatch.setattr(utils, "all_reduce", all_reduce)
        parameters = torch.nn.ParameterList(torch.nn.Parameter(torch.ones(SIZE)) for _ in range(2))
        for parameter, used in zip(parameters, own, strict=True):
            parameter.grad = torch.full((SIZE,), 4.0) if used else None
        LegacyDistributedDataParallel(parameters, process_group=None).all_reduce_grads()
        return [None if one.grad is None else set(one.grad.tolist()) for one in parameters]

    return run


@pytest.mark.parametrize(
    "own, others, expected",
    [
        ([1, 0], [1, 0], [{3.5}, None]),
        ([1, 0], [0, 1], [{2.0}, {1.5}]),
        ([0, 0], [1, 0], [{1.5}, None]),
        ([0, 0], [0, 0], [None, None]),
        ([1, 1], [1, 1], [{3.5}, {3.5}]),
    ],
)
def test_parameters_that_no_rank_has_used_keep_no_gradient(own, others, expected, reduced):
    assert reduced(own, others) == expected


def test_nothing_is_exchanged_while_gradients_accumulate(monkeypatch):
    exchanged = []
    monkeypatch.setattr(utils, "get_world_size", lambda group: 2)
    monkeypatch.setattr(utils, "all_reduce", lambda tensor, group: exchanged.append(tensor))
    module = LegacyDistributedDataParallel(torch.nn.Linear(2, 2), process_group=None)
    with module.no_sync():
        module.all_reduce_grads()
    assert not exchanged
