"""Checkpoints that keep what has changed since another one, against the whole content they stand for."""

import shutil

import numpy as np
import pytest
import torch

from mlvl_fairseq.checkpoints.archive import save_checkpoint
from mlvl_fairseq.checkpoints.changes import changes_since, handed_over
from mlvl_fairseq.checkpoints.comparison import tensors
from mlvl_fairseq.checkpoints.safe_loading import load_checkpoint_file
from mlvl_fairseq.errors import DataError

ROWS, WIDTH = 40, 16
EMBEDDING = "text.token_embedding."


def bits(state):
    """Everything in a state as plain values, numbers as bytes."""
    if isinstance(state, dict):
        return {key: bits(value) for key, value in state.items()}
    if isinstance(state, torch.Tensor):
        return str(state.dtype), tuple(state.shape), state.numpy().tobytes()
    return type(state), [bits(one) for one in state] if isinstance(state, list) else state


def first_state():
    draw = torch.Generator().manual_seed(1)
    weight = torch.randn(ROWS, WIDTH, generator=draw)
    weight[6, 2], weight[7, 2] = 0.0, float("nan")
    return {
        "cfg": {"model": {"_name": "clip", "lr": [0.1]}},
        "model": {
            EMBEDDING + "weight": weight,
            EMBEDDING + "idle_decay_bits": torch.tensor([0.9], dtype=torch.float64).view(torch.int64),
            EMBEDDING + "trained_rows": torch.tensor([0, 3]),
            "frozen": torch.randn(4, 4, generator=draw),
            "count": torch.tensor(1),
            "flags": torch.tensor([True, False]),
            "none": torch.empty(0, 3),
            "half": torch.randn(3, 4, generator=draw).half(),
        },
        "task_state": {"vocabulary": {"tokens": ["a", "b"], "merges": ["a b"]}, "languages": ["en"], "numbers": [1]},
    }


def next_state(base):
    """A language later: three rows moved, two came, all others are decayed as handing over does."""
    weight = base["model"][EMBEDDING + "weight"] * np.float32(0.9)
    weight[[0, 3]] = base["model"][EMBEDDING + "weight"][[0, 3]]
    weight = torch.cat([weight, torch.full((2, WIDTH), 7.0)])
    weight[5], weight[6, 2], weight[39] = 1.0, -0.0, float("nan")
    return {
        "cfg": {"model": {"_name": "clip", "lr": [0.1, 0.2]}},
        "model": {
            EMBEDDING + "weight": weight,
            "frozen": base["model"]["frozen"].clone(),
            "count": torch.tensor(2),
            "flags": torch.tensor([True, True]),
            "none": torch.empty(0, 3),
            "half": base["model"]["half"].flip(0),
            "added": torch.arange(3),
        },
        "task_state": {
            "vocabulary": {"tokens": ["a", "b", "c"], "merges": ["a b", "b c"]},
            "languages": ["en", "de"],
            "numbers": [True],
        },
    }


@pytest.fixture
def chain(tmp_path):
    """Files of three languages and what they stand for; the second and the third hold changes."""
    third = next_state(first_state())  # of as many rows
    third["model"]["frozen"] = third["model"]["frozen"] + 1
    states = [first_state(), next_state(first_state()), third]
    return written(tmp_path, states), states


def written(folder, states):
    """Paths of files that hold the first of the states, and what has changed since the one before."""
    paths = [folder / f"0{i}" / "checkpoint_best.pt" for i in range(len(states))]
    for i, (path, state) in enumerate(zip(paths, states)):
        path.parent.mkdir()
        if i:
            base = handed_over(load_checkpoint_file(paths[i - 1]))
            state = changes_since(base, paths[i - 1], state, path)
        save_checkpoint(state, path)
    return paths


def later_state(before, decay):
    """A language later: two rows moved, three came, and the language after it has a decay to carry out."""
    draw, base = torch.Generator().manual_seed(len(before["task_state"]["numbers"])), handed_over(before)
    weight = torch.cat([base["model"][EMBEDDING + "weight"], torch.randn(3, WIDTH, generator=draw)])
    trained = torch.tensor([1, 8, *range(len(weight) - 3, len(weight))])
    weight[trained[:2]] += 1
    bits = torch.tensor([decay], dtype=torch.float64).view(torch.int64)
    model = {EMBEDDING + "weight": weight, EMBEDDING + "idle_decay_bits": bits, EMBEDDING + "trained_rows": trained}
    return {"model": {**base["model"], **model}, "task_state": {"numbers": [*before["task_state"]["numbers"], 1]}}


def test_a_longer_chain_is_the_whole_bit_by_bit(tmp_path):
    """Rows come and decay in every language; one in the middle has fewer rows, and is kept whole. Two
    of the first file's tensors share their numbers: only one of them decays."""
    first = first_state()
    first["model"]["tied"] = first["model"][EMBEDDING + "weight"]
    states = [first]
    for decay in (0.9, 0.7, 0.3):
        states.append(later_state(states[-1], decay))
    middle = later_state(states[-1], 0.6)
    middle["model"][EMBEDDING + "weight"] = torch.full((20, WIDTH), 0.1)
    middle["model"][EMBEDDING + "trained_rows"] = torch.tensor([2])
    states.append(middle)
    for decay in (0.5, 0.1):
        states.append(later_state(states[-1], decay))
    for path, state in zip(written(tmp_path, states), states):
        loaded = load_checkpoint_file(path)
        assert bits(loaded) == bits(state)
        weight = loaded["model"][EMBEDDING + "weight"]
        assert weight.untyped_storage().nbytes() == weight.nbytes  # what is saved of it


def test_what_is_put_together_is_the_whole_bit_by_bit(chain):
    for path, state in zip(*chain):
        assert bits(load_checkpoint_file(path)) == bits(state)


def test_rows_that_only_decayed_are_not_in_the_file(chain):
    (_, second, _), _ = chain
    kept = torch.load(second, weights_only=True)["changes"][1]
    _, length, rows, values = kept["model"][1][EMBEDDING + "weight"]
    assert length == ROWS + 2 and rows.tolist() == [5, 6, 39, 40, 41] and values.shape == (5, WIDTH)
    assert kept["model"][1]["frozen"] == kept["model"][1]["none"] == ["same"]
    assert kept["task_state"][1]["vocabulary"][1]["tokens"] == ["more", 2, ["c"]]
    assert kept["task_state"][1]["numbers"] == ["value", [True]]


def test_the_folder_of_a_run_can_be_moved(chain, tmp_path):
    paths, states = chain
    (tmp_path / "moved").mkdir()
    for path in paths:
        shutil.move(path.parent, tmp_path / "moved")
    assert bits(load_checkpoint_file(tmp_path / "moved" / "02" / "checkpoint_best.pt")) == bits(states[2])


@pytest.mark.parametrize("what", ["gone", "other"])
def test_without_the_very_file_before_it_says_what_to_do(chain, what):
    (first, second, third), _ = chain
    state = load_checkpoint_file(first)
    first.unlink()
    if what == "other":
        state["model"]["frozen"] += 1
        save_checkpoint(state, first)
    named = "which is not there" if what == "gone" else "which is another file now"
    for path in (second, third):
        message = f"{second}: keeps what has changed since {first}, {named}; .*mlvl-export checkpoint"
        with pytest.raises(DataError, match=message):
            load_checkpoint_file(path)


@pytest.mark.parametrize(
    "change",
    [
        ["rows", 10**12, torch.tensor([1], dtype=torch.int32), torch.ones(1, WIDTH)],
        ["rows", ROWS + 1, torch.tensor([1], dtype=torch.int32), torch.ones(1, WIDTH)],
        ["rows", ROWS - 1, torch.tensor([], dtype=torch.int32), torch.ones(0, WIDTH)],
        ["rows", ROWS, torch.tensor([-1], dtype=torch.int32), torch.ones(1, WIDTH)],
        ["rows", ROWS, torch.tensor([ROWS], dtype=torch.int32), torch.ones(1, WIDTH)],
        ["rows", ROWS, torch.tensor([1], dtype=torch.int32), torch.ones(1, 1)],
        ["rows", ROWS, torch.tensor([1, 2], dtype=torch.int32), torch.ones(1, WIDTH)],
        ["more", 3, ["a"]],
        ["parts", ["a"]],
        ["more"],
        ["else", 1],
        [],
        5,
    ],
)
def test_changes_that_do_not_fit_are_refused(chain, change):
    (_, second, _), _ = chain
    content = torch.load(second, weights_only=True)
    content["changes"][1]["model"][1][EMBEDDING + "weight"] = change
    save_checkpoint(content, second)
    with pytest.raises(DataError, match=f"{second}.*its changes do not fit .*restore it from a good copy"):
        load_checkpoint_file(second)


def test_a_file_that_names_no_other_is_refused(tmp_path):
    save_checkpoint({"changes_since": {"path": 3}, "changes": ["value", {}]}, tmp_path / "a.pt")
    with pytest.raises(DataError, match="changes_since"):
        load_checkpoint_file(tmp_path / "a.pt")


def test_a_base_that_is_no_checkpoint_is_refused(tmp_path):
    save_checkpoint({"weights": 1}, tmp_path / "base.pt")
    save_checkpoint(changes_since({}, tmp_path / "base.pt", first_state(), tmp_path / "a.pt"), tmp_path / "a.pt")
    with pytest.raises(DataError, match="a.pt.*its changes do not fit"):
        load_checkpoint_file(tmp_path / "a.pt")


def test_other_readers_see_the_whole(chain):
    (_, second, _), states = chain
    assert torch.equal(tensors(second, ("model",))["model.half"], states[1]["model"]["half"])
