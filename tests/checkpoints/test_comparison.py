"""When two checkpoints are the same: to the bit in what training goes on from, whatever clocks say."""

import copy

import pytest
import torch

from mlvl_fairseq.checkpoints.comparison import differing, largest_difference, tensors

STATE = {
    "model": {"a.weight": torch.tensor([[1.0, -2.0], [0.0, float("nan")]]), "position": torch.tensor(3)},
    "criterion": {"temperature": torch.tensor(0.07)},
    "last_optimizer_state": {"state": {0: {"step": 4, "exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]},
    "optimizer_history": [{"num_updates": 2}, {"num_updates": 4, "optimizer_name": "A"}],
    "extra_state": {"train_iterator": {"epoch": 2}, "val_loss": 1.5, "best": 40.0, "metrics": [("wall", 3.0)]},
    "task_state": {"languages": ["en", "de"]},
    "cfg": {"lr": 0.1},
}


@pytest.fixture
def saved(tmp_path):
    """``saved(name, place=value)``: the file of a state in which some places, keys joined by /, have other values."""

    def save(name, **changes):
        state = copy.deepcopy(STATE)
        for place, value in changes.items():
            *parents, last = (int(key) if key.isdigit() else key for key in place.split("/"))
            inner = state
            for key in parents:
                inner = inner[key]
            inner[last] = value
        torch.save(state, tmp_path / name)
        return tmp_path / name

    return save


def test_a_copy_is_the_same(saved):
    assert differing(saved("a.pt"), saved("b.pt")) == []


@pytest.mark.parametrize(
    "place, value, found",
    [
        ("model/a.weight", torch.tensor([[1.0, -2.0], [-0.0, float("nan")]]), "model.a.weight"),  # one bit
        ("model/a.weight", STATE["model"]["a.weight"].double(), "model.a.weight"),
        ("model/a.weight", STATE["model"]["a.weight"].reshape(4), "model.a.weight"),
        ("criterion/temperature", torch.tensor(0.08), "criterion.temperature"),
        ("last_optimizer_state/state/0/exp_avg", torch.zeros(2), "last_optimizer_state.state.0.exp_avg"),
        ("last_optimizer_state/state/0/step", 5, "last_optimizer_state.state.0.step"),
        ("last_optimizer_state/state/0/step", 4.0, "last_optimizer_state.state.0.step"),  # another type
        ("last_optimizer_state/state/0/step", torch.tensor(4), "last_optimizer_state.state.0.step"),
        ("last_optimizer_state/param_groups/0/lr", 0.2, "last_optimizer_state.param_groups.0.lr"),
        ("optimizer_history/1/num_updates", 5, "optimizer_history.0.num_updates"),
        ("extra_state/train_iterator", {"epoch": 3}, "train_iterator.epoch"),
        ("extra_state/val_loss", 1.25, "val_loss"),
        ("extra_state/best", 41.0, "best"),
        ("task_state/languages", ["en", "fr"], "task_state.languages.1"),
        ("model/b.bias", torch.zeros(1), "model.b.bias"),  # one of them has it only
        ("task_state/languages", ["en", "de", "fr"], "task_state.languages.2"),
    ],
)
def test_what_differs_is_named(saved, place, value, found):
    assert differing(saved("a.pt"), saved("b.pt", **{place: value})) == [found]
    assert differing(saved("b.pt", **{place: value}), saved("a.pt")) == [found]


def test_times_measurements_options_and_earlier_starts_may_differ(saved):
    changes = {"extra_state/metrics": [("wall", 9.0)], "cfg/lr": 0.5, "optimizer_history/0/num_updates": 1}
    assert differing(saved("a.pt"), saved("b.pt", **changes)) == []


def test_strides_do_not_matter(saved):
    values = torch.tensor([[1.0, 0.0], [-2.0, float("nan")]])
    assert differing(saved("a.pt"), saved("b.pt", **{"model/a.weight": values.T})) == []


def test_numbers_by_their_place(saved):
    found = tensors(saved("a.pt"))
    assert set(found) == {
        *("model.a.weight", "model.position", "criterion.temperature", "last_optimizer_state.state.0.step"),
        *("last_optimizer_state.state.0.exp_avg", "last_optimizer_state.param_groups.0.lr"),
    }
    assert torch.equal(found["last_optimizer_state.state.0.step"], torch.tensor(4))
    assert set(tensors(saved("a.pt"), ("criterion",))) == {"criterion.temperature"}


def test_largest_difference_of_models(saved):
    first = saved("a.pt", **{"model/a.weight": torch.tensor([1.0, 2.0]), "model/none": torch.zeros(0)})
    second = saved("b.pt", **{"model/a.weight": torch.tensor([1.5, 0.0]), "model/none": torch.zeros(0)})
    assert largest_difference(first, second) == 2 and largest_difference(first, first) == 0
    with pytest.raises(ValueError, match=r"hold other tensors: \['model.none'\]"):
        largest_difference(first, saved("c.pt", **{"model/a.weight": torch.zeros(2)}))
