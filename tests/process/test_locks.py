"""One process at a time in a folder."""

import fcntl
import multiprocessing
import threading
import time

import pytest

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.process.locks import alone_in, locked, writing


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


def test_the_holder_and_its_children_may_take_a_lock_again(tmp_path):
    with locked(tmp_path, wait=False):
        with locked(tmp_path, wait=False):
            pass
        child = multiprocessing.get_context("fork").Process(target=take, args=(tmp_path,))
        child.start()
        child.join(10)
        assert child.exitcode == 0
        assert not is_free(tmp_path / ".lock")
    assert is_free(tmp_path / ".lock")


def take(folder):
    with locked(folder, wait=False):
        pass


def is_free(path):
    with open(path, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def test_files_are_locked_each_and_leave_nothing(tmp_path):
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    with writing(first, None, second):
        assert not is_free(tmp_path / ".a.json.lock") and not is_free(tmp_path / ".b.json.lock")
        with locked(tmp_path, wait=False):
            pass
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    with pytest.raises(UserError, match=f"{tmp_path}/no: no such folder"), writing(tmp_path / "no" / "a.json"):
        raise AssertionError("not reached")


def test_a_lock_that_its_holder_removes_is_made_anew(tmp_path, monkeypatch):
    """Whoever waits has opened the file that is removed; a third one would make another and hold that."""
    path, opened, calls = tmp_path / ".a.json.lock", open, []

    def open_what_is_removed(name, *mode):
        file = opened(name, *mode)
        if not calls:
            path.unlink()
        calls.append(name)
        return file

    monkeypatch.setattr("builtins.open", open_what_is_removed)
    with writing(tmp_path / "a.json"):
        assert len(calls) == 2
        monkeypatch.undo()
        assert not is_free(path)


def test_a_file_in_place_of_a_folder(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(UserError, match="out: is a file, where a folder is to be written"), alone_in(tmp_path / "out"):
        pass
    assert (tmp_path / "out").read_text() == "mine"
