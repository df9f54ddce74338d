"""Processes whose parent is killed."""

import multiprocessing
import time

import pytest
from fairseq.dataclass.configs import FairseqConfig
from fairseq.distributed import utils
from processes import assert_ends, is_at_work, needs_proc

from mlvl_fairseq.fairseq_patches.end_with_parent import end_with_parent

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


@needs_proc
@pytest.mark.parametrize("child", [watched, training])
def test_child_ends_when_its_parent_is_killed(child):
    pid, started = fork.Value("i", 0), fork.Event()
    process = fork.Process(target=parent, args=(child, pid, started))
    process.start()
    assert started.wait(30) and is_at_work(pid.value)
    process.kill()
    process.join()
    assert_ends(pid.value)


def test_process_that_multiprocessing_did_not_start_is_let_alone():
    assert multiprocessing.parent_process() is None
    end_with_parent()
    assert utils.call_main(FairseqConfig(), lambda cfg: None) is None
