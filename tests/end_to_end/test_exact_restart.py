"""Killed at any update and started again, a run ends with the tensors of an undisturbed one, byte for byte."""

import multiprocessing
import os
import random
import signal
import time

import pytest
from fairseq.tasks import FairseqTask
from processes import assert_group_ends, group_members, needs_proc, updates_in, updates_of
from run_comparison import assert_same_run

from mlvl_fairseq.checkpoints.comparison import differing, largest_difference, tensors
from mlvl_fairseq.process.jobs import run_job

EPOCHS, UPDATES = 3, 21  # the order of the captions is another one in every epoch
SAVE_OFTEN = ["--save-interval-updates", 3, "--keep-interval-updates", 1, "--log-interval", 1]
CHECKPOINTS = ("checkpoint_best.pt", "checkpoint_last.pt")


@pytest.fixture(scope="module")
def german(cll, english):
    """fairseq-train's arguments for the second language."""

    def options(method, folder, *more):
        learned = ["--finetune-from-model", english(method), "--max-epoch", EPOCHS, *SAVE_OFTEN]
        return [str(option) for option in (*cll("de", "en", method), *learned, "--save-dir", folder, *more)]

    return options


@pytest.fixture(scope="module")
def undisturbed(german, succeed, tmp_path_factory):
    """The folder of a whole run, by method."""
    done = {}

    def run_of(method):
        if method not in done:
            done[method] = tmp_path_factory.mktemp(method)
            succeed("fairseq-train", *german(method, done[method]))
            assert updates_of(done[method] / "checkpoint_last.pt") == UPDATES
        return done[method]

    return run_of


def kill_after(process, log, updates, timeout=120):
    """``kill -9`` as soon as the log has reached a number of updates."""
    end = time.monotonic() + timeout
    while updates_in(log) < updates:
        assert process.is_alive() and time.monotonic() < end, log.read_text(errors="replace")[-3000:]
        time.sleep(0.005)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("method, seed", [("cll_clip", 1), ("cll_clip_with_teir_update", 2)])
def test_killed_training_ends_as_if_undisturbed(german, undisturbed, fork, succeed, tmp_path, method, seed):
    log = tmp_path / "log"
    process = fork(log, "fairseq-train", *german(method, tmp_path / "run"))
    kill_after(process, log, random.Random(seed).randrange(4, UPDATES - 4))
    assert 0 < updates_of(tmp_path / "run" / "checkpoint_last.pt") < UPDATES
    succeed("fairseq-train", *german(method, tmp_path / "run"))
    for name in CHECKPOINTS:
        killed, whole = tmp_path / "run" / name, undisturbed(method) / name
        assert differing(killed, whole) == [] and updates_of(killed) == updates_of(whole)
    places = tensors(whole).keys()
    assert "criterion.temperature" in places and any("exp_avg_sq" in place for place in places)


@pytest.fixture(scope="module")
def stopped(german, succeed, tmp_path_factory):
    """The last checkpoint of a run that was stopped in its second epoch."""
    folder = tmp_path_factory.mktemp("stopped")
    succeed("fairseq-train", *german("cll_clip", folder, "--max-update", 9))
    return folder / "checkpoint_last.pt"


@pytest.fixture
def resume(stopped, german, succeed, tmp_path):
    """Goes on with the stopped run; gives its last checkpoint."""

    def command(*more):
        last = tmp_path / "resumed" / "checkpoint_last.pt"
        last.parent.mkdir()
        last.write_bytes(stopped.read_bytes())
        succeed("fairseq-train", *german("cll_clip", last.parent, *more))
        assert updates_of(last) == UPDATES
        return last

    return command


def test_stopped_training_ends_as_if_undisturbed(resume, undisturbed):
    assert differing(resume(), undisturbed("cll_clip") / "checkpoint_last.pt") == []


def test_control_other_batches_give_other_weights(resume, undisturbed):
    last = resume("--seed", 2)
    assert largest_difference(last, undisturbed("cll_clip") / "checkpoint_last.pt") > 1e-4


def test_control_batches_built_once_give_other_weights(resume, german, succeed, tmp_path, monkeypatch):
    """fairseq's default, which our tasks do not use: the same command without an interruption has another end."""
    build = FairseqTask.get_batch_iterator

    def build_once(self, *args, **kwargs):
        self.cfg.rebuild_batches = False
        return build(self, *args, **kwargs)

    monkeypatch.setattr(FairseqTask, "get_batch_iterator", build_once)
    succeed("fairseq-train", *german("cll_clip", tmp_path / "whole"))
    assert largest_difference(resume(), tmp_path / "whole" / "checkpoint_last.pt") > 1e-4


def test_finished_training_trains_no_more(german, succeed, tmp_path):
    """fairseq looks at --max-update after an update only."""
    for _ in range(2):
        succeed("fairseq-train", *german("cll_clip", tmp_path, "--max-update", 4))
        assert updates_of(tmp_path / "checkpoint_last.pt") == 4


def driver_of_a_long_job(log):
    os.setsid()
    run_job("long", lambda: (log.write_text("at work"), time.sleep(60)), log.with_name("job.log"))


@needs_proc
def test_killed_driver_takes_its_job_along(tmp_path):
    driver = multiprocessing.get_context("fork").Process(target=driver_of_a_long_job, args=(tmp_path / "log",))
    driver.start()
    while not (tmp_path / "log").exists():
        time.sleep(0.01)
    assert len(group_members(driver.pid)) == 2
    driver.kill()
    driver.join()
    assert_group_ends(driver.pid)


@needs_proc
def test_killed_sequence_ends_as_if_undisturbed(fork, learn, corpus, sequence_options, tmp_path):
    """Only the driver is killed, as the out-of-memory killer would; what it had started ends with it."""
    options = ["--max-epoch", 2, *map(str, SAVE_OFTEN)]
    order = ["--method", "cll_clip_with_teir_update", "--order", "en,de"]
    killed, log = tmp_path / "killed", tmp_path / "killed" / "01-de" / "train.log"
    driver = fork(tmp_path / "log", "mlvl-cll", corpus, killed, *order, *sequence_options, *options)
    kill_after(driver, log, random.Random(3).randrange(4, 11))
    assert_group_ends(driver.pid)
    assert (killed / "00-en" / "done.json").exists() and not (killed / "01-de" / "done.json").exists()
    english = (killed / "00-en" / "checkpoint_best.pt").stat().st_mtime_ns

    learn(killed, "cll_clip_with_teir_update", "en,de", *options)
    whole = learn(tmp_path / "whole", "cll_clip_with_teir_update", "en,de", *options)
    assert (killed / "00-en" / "checkpoint_best.pt").stat().st_mtime_ns == english
    assert_same_run(killed, whole)
