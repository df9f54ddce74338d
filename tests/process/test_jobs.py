"""Jobs in forked processes: how they end, what they cost, and what signals do to them."""

import json
import logging
import multiprocessing
import os
import re
import signal
import time

import pytest
from processes import assert_ends, needs_proc

from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.process import jobs
from mlvl_fairseq.process.jobs import run_job, run_jobs
from mlvl_fairseq.process.signals import Stopped
from mlvl_fairseq.runs.costs import JobCosts

MIB = 2**20


@pytest.fixture
def log(tmp_path):
    return tmp_path / "logs" / "job.log"


@pytest.fixture
def costs(tmp_path):
    return JobCosts(tmp_path / "step" / "costs.json", "train")


def fail():
    raise UserError("the file is wrong")


def signal_driver(number):
    """What a job does that sends its driver a signal and waits for one."""
    os.kill(os.getppid(), number)
    time.sleep(60)


def test_output_goes_to_the_log_and_nothing_comes_back(log, capfd):
    run_job("job", lambda: print("at work"), log)
    run_job("job", lambda: os.system("echo again"), log)
    assert log.read_text() == "at work\nagain\n" and capfd.readouterr().out == ""


def test_the_bar_of_a_training_that_goes_on_starts_where_it_stopped(log, capfd, caplog):
    """The lines are fairseq's: of a training from weights of another, then of the same when it has been killed."""
    loaded = "2026-01-02 03:04:05 | INFO | fairseq.trainer | Loaded checkpoint {} (epoch {} @ {} updates)"
    stats = '2026-01-02 03:04:06 | INFO | train_inner | {{"epoch": 1, "loss": "2.5", "num_updates": "{}"}}'
    first = [loaded.format("00-en/checkpoint_best.pt", 1, 0), stats.format(10)]
    again = [loaded.format("01-de/checkpoint_last.pt", 19, 54), stats.format(60)]
    with caplog.at_level(logging.INFO):
        run_job("[2/2] de train", lambda: print(*first, sep="\n"), log, total=300)
        assert "goes on" not in caplog.text and "0/300" in capfd.readouterr().err
        run_job("[2/2] de train", lambda: print(*again, sep="\n"), log, total=300)
    assert [record.getMessage() for record in caplog.records] == ["[2/2] de train goes on from update 54"]
    bars = re.findall(r"(\d+)/300", capfd.readouterr().err)
    assert (bars[0], bars[-1]) == ("54", "60")


def test_failure_is_told_with_the_last_line(log):
    with pytest.raises(UserError, match=r"^job stopped \(exit status 1\): the file is wrong; log: .*job.log$"):
        run_job("job", fail, log)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_is_passed_on_and_waited_for(number, log, tmp_path):
    def work():
        try:
            signal_driver(number)
        finally:
            (tmp_path / "tidied up").touch()

    with pytest.raises(Stopped) as stopped:
        run_job("job", work, log)
    assert stopped.value.code == 128 + number
    assert (tmp_path / "tidied up").exists() and log.read_text() == ""


def test_signal_during_the_fork_is_not_lost(log, monkeypatch):
    """It arrives before the child can answer it."""
    start = jobs._MeasuredProcess.start

    def start_and_signal(process):
        start(process)
        os.kill(process.pid, signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(jobs._MeasuredProcess, "start", start_and_signal)
    began = time.monotonic()
    with pytest.raises(Stopped):
        run_job("job", lambda: time.sleep(60), log)
    assert time.monotonic() - began < 30 and log.read_text() == ""


def test_second_signal_ends_a_job_that_goes_on(log):
    def stubborn():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.kill(os.getppid(), signal.SIGTERM)
        time.sleep(1.5)
        os.kill(os.getppid(), signal.SIGTERM)
        time.sleep(60)

    driver = multiprocessing.get_context("fork").Process(target=run_job, args=("job", stubborn, log))
    driver.start()
    driver.join(30)
    assert driver.exitcode == -signal.SIGTERM


def use_memory():
    memory = bytearray(200 * MIB)
    memory[:: 2**12] = bytes([1]) * len(memory[:: 2**12])


def test_costs_add_up_over_runs(log, costs):
    run_job("job", lambda: time.sleep(0.3), log, costs=costs)
    first = json.loads(costs.path.read_text())["train"]
    assert 0.3 <= first["seconds"] < 5 and first["runs"] == 1 and first["peak_mib"] > 10
    with pytest.raises(UserError):
        run_job("job", lambda: (use_memory(), time.sleep(0.2), fail()), log, costs=costs)
    run_job("job", lambda: None, log, costs=JobCosts(costs.path, "finish"))
    both = json.loads(costs.path.read_text())
    assert both["train"]["seconds"] >= first["seconds"] + 0.2 and both["train"]["runs"] == 2
    assert first["peak_mib"] + 150 < both["train"]["peak_mib"] and both["finish"]["runs"] == 1


def test_memory_of_a_small_job_after_a_large_one(log, costs, tmp_path):
    """It is the child's own, not the largest of all children so far."""
    other = JobCosts(tmp_path / "other.json", "train")
    run_job("job", use_memory, log, costs=costs)
    run_job("job", lambda: None, log, costs=other)
    peaks = [json.loads(entry.path.read_text())["train"]["peak_mib"] for entry in (costs, other)]
    assert peaks[1] + 150 < peaks[0]


def test_costs_of_a_killed_driver_are_known(log, costs, monkeypatch):
    monkeypatch.setattr(jobs, "SAVE_SECONDS", 0.1)
    work = lambda: time.sleep(60)  # noqa: E731
    driver = multiprocessing.get_context("fork").Process(target=run_job, args=("job", work, log, None, costs))
    driver.start()
    while not (costs.path.exists() and json.loads(costs.path.read_text())["train"]["seconds"] > 0.3):
        time.sleep(0.02)
    driver.kill()
    driver.join()
    run_job("job", lambda: None, log, costs=costs)
    assert json.loads(costs.path.read_text())["train"]["runs"] == 2


def test_damaged_costs_are_named(log, costs):
    costs.path.parent.mkdir()
    costs.path.write_text("{")
    with pytest.raises(DataError, match="costs.json: not JSON"):
        run_job("job", lambda: None, log, costs=costs)


def test_several_jobs_a_few_at_a_time(tmp_path):
    def work(name):
        (tmp_path / name).touch()
        at_work = len(list(tmp_path.glob("job?")))
        time.sleep(0.3)
        (tmp_path / name).rename(tmp_path / f"{name} of {at_work}")

    names = ["job1", "job2", "job3"]
    for _ in run_jobs([(name, lambda name=name: work(name), tmp_path / "log") for name in names], at_once=2):
        pass
    ended = sorted(path.name for path in tmp_path.glob("job*"))
    assert [name.split()[0] for name in ended] == names and all(int(name.split()[-1]) <= 2 for name in ended)


def test_failure_of_one_job_stops_the_others(tmp_path):
    work = [("long", lambda: time.sleep(60), tmp_path / "long.log"), ("wrong", fail, tmp_path / "wrong.log")]
    others, began = multiprocessing.active_children(), time.monotonic()  # other tests' may be at work
    with pytest.raises(UserError, match="wrong stopped"):
        list(run_jobs(work, at_once=2))
    assert time.monotonic() - began < 30 and set(multiprocessing.active_children()) <= set(others)


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_driver_of_drivers_takes_all_along(tmp_path, number):
    """As mlvl-quickstart, which runs several mlvl-cll: whatever ends it, nothing stays at work."""

    def deepest():
        (tmp_path / "pid").write_text(str(os.getpid()))
        time.sleep(60)

    def driver():
        list(run_jobs([("outer", lambda: run_job("inner", deepest, tmp_path / "inner"), tmp_path / "outer")], 1))

    process = multiprocessing.get_context("fork").Process(target=driver)
    process.start()
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        time.sleep(0.01)
    os.kill(process.pid, number)
    process.join()
    assert_ends(int((tmp_path / "pid").read_text()))
    assert process.exitcode == (143 if number == signal.SIGTERM else -signal.SIGKILL)
