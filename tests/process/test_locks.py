"""One process at a time in a folder."""

import multiprocessing
import threading
import time

import pytest

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.process.locks import locked


def hold(folder, held):
    with locked(folder):
        held.set()
        time.sleep(60)


@pytest.fixture
def holder(tmp_path):
    """A process that holds the folder's lock."""
    context = multiprocessing.get_context("fork")
    held = context.Event()
    process = context.Process(target=hold, args=(tmp_path, held))
    process.start()
    assert held.wait(10)
    yield process
    process.kill()
    process.join()


def test_second_process_is_told(holder, tmp_path, monkeypatch):
    monkeypatch.setattr("mlvl_fairseq.process.locks.PATIENCE", 0.1)
    with pytest.raises(UserError, match=f"another process is at work in {tmp_path}: wait"):
        with locked(tmp_path, wait=False):
            pass


def test_lock_ends_with_its_process(holder, tmp_path):
    holder.kill()
    with locked(tmp_path):  # waits until it has ended
        pass


def test_lock_ends_with_its_block(tmp_path):
    for _ in range(2):
        with locked(tmp_path, wait=False):
            pass
    (tmp_path / "other").mkdir()
    with locked(tmp_path), locked(tmp_path / "other", wait=False):
        pass


def test_file_systems_without_locks(tmp_path, monkeypatch):
    def unsupported(file, how):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", unsupported)
    with locked(tmp_path, wait=False):
        pass


def test_a_lock_that_is_about_to_end_is_waited_for(holder, tmp_path):
    threading.Timer(0.5, holder.kill).start()  # as children of a killed process hold its lock a moment longer
    with locked(tmp_path, wait=False):
        pass
