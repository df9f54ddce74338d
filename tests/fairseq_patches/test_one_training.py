"""One training at a time in a ``--save-dir``."""

import fcntl
import os

import pytest

from mlvl_fairseq.errors import UserError


@pytest.fixture
def taken(tmp_path, monkeypatch):
    """A save directory in which another training is at work."""
    monkeypatch.setattr("mlvl_fairseq.process.locks.PATIENCE", 0)
    (tmp_path / "run").mkdir()
    with open(tmp_path / "run" / ".checkpoint_last.pt.lock", "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # another opening of the file: as good as another process
        yield tmp_path / "run"


def test_the_second_training_is_told(run_here, train_options, taken):
    with pytest.raises(
        UserError, match=f"^another process is at work in {taken}/checkpoint_last.pt: wait until it has ended"
    ):
        run_here("fairseq-train", *train_options, "--max-epoch", 1, "--save-dir", taken)
    assert os.listdir(taken) == [".checkpoint_last.pt.lock"]


def test_a_training_that_writes_nothing_takes_no_lock(run_here, train_options, taken):
    run_here("fairseq-train", *train_options, "--max-epoch", 1, "--save-dir", taken, "--no-save")


def test_a_training_leaves_no_lock(run_here, train_options, tmp_path):
    for epochs in (1, 2):
        run_here("fairseq-train", *train_options, "--max-epoch", epochs, "--save-dir", tmp_path)
        assert {path.suffix for path in tmp_path.iterdir()} == {".pt"}
    assert (tmp_path / "checkpoint2.pt").exists()
