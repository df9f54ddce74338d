"""Threads of OpenMP: idle ones sleep, and processes that run side by side share the cores."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from mlvl_fairseq.process import threads
from mlvl_fairseq.process.jobs import run_jobs

COUNT = """
import os, fairseq_cli.train
def tasks():  # a listing ends early where a thread ends while it is made: torch's allocator has such threads
    return {task for _ in range(20) for task in os.listdir("/proc/self/task")}
before = tasks()
import mlvl_fairseq
print(len(tasks() - before), os.environ.get("OMP_WAIT_POLICY"))
"""


@pytest.fixture
def said(run_alone, monkeypatch):
    """``said(code, **environment)``: what Python prints, and what OpenMP says of itself."""

    # this process has said something, too; from MKL's number of threads torch makes OpenMP's
    for name in (*threads.WAITING, "GOMP_SPINCOUNT", "KMP_LIBRARY", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)

    def run(code, **environment):
        ended = run_alone("python", "-c", code, env={"OMP_DISPLAY_ENV": "true", **environment})
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.split()[-2:], ended.stderr

    return run


@pytest.mark.parametrize(
    "given, policy", [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE"), ({"GOMP_SPINCOUNT": "7"}, "None")]
)
def test_commands_say_how_threads_wait_before_torch_asks(said, given, policy):
    code = "import sys, os, mlvl_fairseq.cli.cll; print('torch' in sys.modules, os.environ.get('OMP_WAIT_POLICY'))"
    (too_late, found), openmp = said(f"{code}; import torch", **given)
    assert (too_late, found) == ("False", policy)
    assert f"OMP_WAIT_POLICY = '{policy if policy == 'ACTIVE' else 'PASSIVE'}'" in openmp


@pytest.mark.parametrize("given, policy", [({}, "PASSIVE"), ({"KMP_LIBRARY": "turnaround"}, "None")])
def test_fairseq_s_commands_whose_openmp_has_asked_keep_threads_that_sleep(said, given, policy):
    """One that holds them, and as many of OpenMP's as make it one thread more than there are processors."""
    (more, found), _ = said(COUNT, OMP_NUM_THREADS="2", **given)
    assert (int(more), found) == (threads.cores() if policy == "PASSIVE" else 0, policy)


def test_where_one_thread_computes_none_is_held(said):
    assert said(COUNT, OMP_NUM_THREADS="1")[0] == ["0", "PASSIVE"]


@pytest.fixture
def six_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(6)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("cores, at_once, each", [(8, 2, "4"), (8, 3, "2"), (2, 3, "1"), (64, 2, "6")])
def test_jobs_side_by_side_share_the_cores(six_threads, monkeypatch, tmp_path, cores, at_once, each):
    monkeypatch.setattr(threads, "cores", lambda: cores)
    work = [(name, lambda: print(torch.get_num_threads()), tmp_path / name) for name in "ab"]
    for _ in run_jobs(work, at_once):
        pass
    assert [(tmp_path / name).read_text().split() for name in "ab"] == [[each], [each]]


@pytest.mark.parametrize("given, expected", [("", "4"), ("3", "3"), ("9", "4"), ("3,2", "4")])
def test_a_share_is_known_before_torch_is(monkeypatch, given, expected):
    monkeypatch.setattr(threads, "cores", lambda: 8)
    monkeypatch.delitem(threads.sys.modules, "torch")
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    threads.share_threads(2)
    assert threads.os.environ["OMP_NUM_THREADS"] == expected


def test_threads_of_a_pool_compute_alone(six_threads):
    with ThreadPoolExecutor(1, initializer=threads.one_thread) as pool:
        assert pool.submit(torch.get_num_threads).result() == 1
    assert torch.get_num_threads() == 6
