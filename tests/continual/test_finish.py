"""What is left of a language's training once it has ended."""

import json
import logging
from types import SimpleNamespace

import pytest
import torch

from mlvl_fairseq.checkpoints.safe_loading import load_checkpoint_file
from mlvl_fairseq.continual.finish import finish_checkpoint
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.runs.folder import StepFolder


@pytest.fixture
def trained(tmp_path):
    """A language's folder when fairseq-train has ended: two trainings are in the history, the last one counts."""
    folder = StepFolder(tmp_path / "01-de")
    folder.path.mkdir()
    state = {
        "model": {"weight": torch.arange(6.0)},
        "last_optimizer_state": {"state": {0: {"exp_avg": torch.ones(6)}}},
        "optimizer_history": [{"num_updates": 5}, {"num_updates": 12}],
        "extra_state": {"best": 41.5},
        "task_state": {"trainable_parameters": 6},
    }
    for path in (folder.best_checkpoint, folder.last_checkpoint):
        torch.save(state, path)
    return folder


def sequence_of(folder, before=None, keeps=False):
    own = {"folder_of": {1: folder}.__getitem__, "kept_changes_since": {1: before}.__getitem__}
    return SimpleNamespace(**own, keeps_interval_checkpoints=keeps)


def test_the_best_checkpoint_stays_without_its_optimizer_state(trained):
    finish_checkpoint(sequence_of(trained), 1)
    state = load_checkpoint_file(trained.best_checkpoint)
    assert "last_optimizer_state" not in state and torch.equal(state["model"]["weight"], torch.arange(6.0))
    assert json.loads(trained.done.read_text()) == {
        "checkpoint": "checkpoint_best.pt",
        "num_updates": 12,
        "r_mean": 41.5,
        "trainable_parameters": 6,
        "checkpoint_bytes": trained.best_checkpoint.stat().st_size,
    }
    assert not trained.last_checkpoint.exists()


@pytest.mark.parametrize("keeps", [False, True])
def test_checkpoints_of_intervals_go_unless_the_user_said_how_many_to_keep(trained, keeps, caplog):
    of_intervals = ["checkpoint_17_50.pt", "checkpoint_2_6.pt"]  # fairseq's names: epoch, update
    others = ["checkpoint3.pt", "checkpoint.best_r_mean_41.5000.pt", "checkpoint_1_2.txt"]
    for name in [*of_intervals, *others]:
        (trained.path / name).touch()
    with caplog.at_level(logging.INFO):
        finish_checkpoint(sequence_of(trained, keeps=keeps), 1)
    left = {path.name for path in trained.path.iterdir()} - {"checkpoint_best.pt", "done.json"}
    assert left == {*others, *(of_intervals if keeps else [])}
    assert all((f"removed {trained.path / name}" in caplog.text) != keeps for name in of_intervals)


def test_a_second_time_changes_nothing(trained):
    """A process that was killed between the two does it again, with what is there."""
    finish_checkpoint(sequence_of(trained), 1)
    content, done = trained.best_checkpoint.read_bytes(), trained.done.read_bytes()
    finish_checkpoint(sequence_of(trained), 1)
    assert (trained.best_checkpoint.read_bytes(), trained.done.read_bytes()) == (content, done)


def test_without_a_best_checkpoint_it_is_not_done(trained):
    trained.best_checkpoint.unlink()
    with pytest.raises(DataError, match="checkpoint_best.pt: .*no best checkpoint"):
        finish_checkpoint(sequence_of(trained), 1)
    assert not trained.is_done and trained.last_checkpoint.exists()


def test_only_the_changes_since_the_language_before_are_kept(trained, tmp_path):
    before = StepFolder(tmp_path / "00-en")
    before.path.mkdir()
    torch.save({"model": {"weight": torch.tensor([0, 1, 2, 3, 4.0])}}, before.best_checkpoint)
    whole = load_checkpoint_file(trained.best_checkpoint)
    for _ in range(2):  # killed before it was marked as done, it does it again
        finish_checkpoint(sequence_of(trained, before), 1)
    kept = torch.load(trained.best_checkpoint, weights_only=True)
    assert kept["changes_since"]["path"] == "../00-en/checkpoint_best.pt"
    assert kept["changes"][1]["model"] == ["parts", {"weight": ["rows", 6, torch.tensor([5]), torch.tensor([5.0])]}]
    state = load_checkpoint_file(trained.best_checkpoint)
    del whole["last_optimizer_state"]
    assert str(state) == str(whole)
    assert json.loads(trained.done.read_text())["checkpoint_bytes"] == trained.best_checkpoint.stat().st_size
