"""What is left of a command that was interrupted: its last checkpoint, and its processes."""

import time
from pathlib import Path

import pytest

from mlvl_fairseq.compat import load_checkpoint_file

needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in /proc")


def updates_in(log):
    """Number of updates that a log has reached."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    counts = [line.partition('"num_updates": "')[2].partition('"')[0] for line in lines]
    return max((int(count) for count in counts if count), default=0)


def updates_of(checkpoint):
    """Number of updates that a checkpoint has done."""
    return load_checkpoint_file(checkpoint)["optimizer_history"][-1]["num_updates"]


def group_members(group):
    """Process ids of a process group that are still at work, from /proc."""
    members = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:  # it has ended meanwhile
            continue
        if int(its_group) == group and state not in "ZX":
            members.append(int(stat.parent.name))
    return members


def assert_group_ends(group, timeout=10):
    end = time.monotonic() + timeout
    while group_members(group):
        assert time.monotonic() < end, "a killed command leaves processes behind"
        time.sleep(0.02)
