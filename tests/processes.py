"""What is left of a command that was interrupted: its last checkpoint, and its processes (from /proc); and ports."""

import socket
import time
from pathlib import Path

import pytest

from mlvl_fairseq.checkpoints.safe_loading import load_checkpoint_file

needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in /proc")


def updates_in(log):
    """Number of updates that a log has reached."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    counts = [line.partition('"num_updates": "')[2].partition('"')[0] for line in lines]
    return max((int(count) for count in counts if count), default=0)


def updates_of(checkpoint):
    """Number of updates that a checkpoint has done."""
    return load_checkpoint_file(checkpoint)["optimizer_history"][-1]["num_updates"]


def is_at_work(pid):
    return _group_of(pid) is not None


def group_members(group):
    """Process ids of a process group that are still at work."""
    pids = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    return [pid for pid in pids if _group_of(pid) == group]


def _group_of(pid):
    """The process group of a process, None: it has ended."""
    try:
        state, _, group = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:3]
    except OSError:  # it ends just now
        return None
    return None if state in "ZX" else int(group)


def assert_ends(pid):
    _wait_for(lambda: not is_at_work(pid), "it goes on without its parent")


def assert_group_ends(group):
    _wait_for(lambda: not group_members(group), "a killed command leaves processes behind")


def _wait_for(condition, message, timeout=10):
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, message
        time.sleep(0.02)


def free_port():
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
