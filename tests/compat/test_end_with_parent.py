"""Processes whose parent is killed."""

import multiprocessing
import time
from pathlib import Path

import pytest
from fairseq.dataclass.configs import FairseqConfig
from fairseq.distributed import utils

from mlvl_fairseq.compat.end_with_parent import end_with_parent

fork = multiprocessing.get_context("fork")


def work(started):
    started.set()
    time.sleep(60)


def watched(started):
    end_with_parent()
    work(started)


def training(started):
    utils.call_main(FairseqConfig(), lambda cfg: work(started))


def parent(child, pid, started):
    process = fork.Process(target=child, args=(started,))
    process.start()
    pid.value = process.pid
    process.join()


def at_work(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
@pytest.mark.parametrize("child", [watched, training])
def test_child_ends_when_its_parent_is_killed(child):
    pid, started = fork.Value("i", 0), fork.Event()
    process = fork.Process(target=parent, args=(child, pid, started))
    process.start()
    assert started.wait(30) and at_work(pid.value)
    process.kill()
    process.join()
    end = time.monotonic() + 10
    while at_work(pid.value):
        assert time.monotonic() < end, "it goes on without its parent"
        time.sleep(0.01)


def test_process_that_multiprocessing_did_not_start_is_let_alone():
    assert multiprocessing.parent_process() is None
    end_with_parent()
    assert utils.call_main(FairseqConfig(), lambda cfg: None) is None
