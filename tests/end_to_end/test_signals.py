"""SIGTERM and Ctrl-C stop a command after the running update; run again, it ends as if nothing had happened."""

import json
import os
import shutil
import signal
import time
from functools import partial

import pytest
import torch
from fairseq.trainer import Trainer
from processes import assert_group_ends, needs_proc, updates_in, updates_of
from run_comparison import assert_same_run

from mlvl_fairseq.checkpoints.comparison import differing
from mlvl_fairseq.tasks._base import CaptionTask

METHOD = "cll_clip_with_teir_update"
SIGNALS = {signal.SIGTERM: 143, signal.SIGINT: 130}
EPOCH, UPDATES = 7, 14
CHECKPOINTS = ("checkpoint_best.pt", "checkpoint_last.pt")


@pytest.fixture(scope="module")
def german(cll, english):
    """fairseq-train's arguments for two epochs of German after English."""

    def options(folder, *more):
        learned = ["--finetune-from-model", english(METHOD), "--max-epoch", 2, "--log-interval", 1]
        return [str(option) for option in (*cll("de", "en", METHOD), *learned, "--save-dir", folder, *more)]

    return options


@pytest.fixture(scope="module")
def whole(german, succeed, tmp_path_factory):
    """The folder of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    succeed("fairseq-train", *german(folder))
    assert updates_of(folder / "checkpoint_last.pt") == UPDATES
    return folder


@pytest.fixture
def during_update(monkeypatch):
    """``during_update(9, send)``: commands that are forked from here call ``send()`` in the ninth update (of German),
    one of several ranks does."""

    def prepare(update, send, rank=0):
        step = Trainer.train_step

        def train_step(self, *args, **kwargs):
            here = self.cfg.distributed_training.distributed_rank == rank and self.cfg.task.lang == "de"
            if here and self.get_num_updates() == update - 1:
                send()
            return step(self, *args, **kwargs)

        monkeypatch.setattr(Trainer, "train_step", train_step)

    yield prepare
    monkeypatch.undo()


def assert_as_whole(folder, whole):
    for name in CHECKPOINTS:
        assert differing(folder / name, whole / name) == []
        assert updates_of(folder / name) == updates_of(whole / name)


def ended(process, log):
    process.join(timeout=60)
    assert "Traceback" not in log.read_text()
    return process.exitcode


@needs_proc
@pytest.mark.parametrize(
    "number, update, options",
    [
        (signal.SIGTERM, 3, []),  # before anything was validated
        (signal.SIGINT, 9, []),
        (signal.SIGTERM, 10, ["--num-workers", 2]),
        (signal.SIGINT, EPOCH, []),  # the last of an epoch: validation and checkpoint are due
        (signal.SIGTERM, UPDATES, []),  # the very last
        (signal.SIGTERM, 9, ["--save-interval-updates", 3]),  # is saved, and validated, anyway
    ],
)
def test_stopped_training_goes_on_exactly(
    number, update, options, german, whole, fork, succeed, during_update, monkeypatch, tmp_path
):
    """The whole process group is signalled, as a terminal and batch systems do: data loaders' workers, too."""
    if "--save-interval-updates" in options:
        succeed("fairseq-train", *german(tmp_path / "whole", *options))
        whole = tmp_path / "whole"
    during_update(update, lambda: os.killpg(0, number))
    process = fork(tmp_path / "log", "fairseq-train", *german(tmp_path / "run", *options))
    assert ended(process, tmp_path / "log") == SIGNALS[number]
    assert_group_ends(process.pid)
    line = f"stopped by {number.name} at update {update}; the same command continues"
    assert line in (tmp_path / "log").read_text().splitlines()[-1]
    assert updates_of(tmp_path / "run" / "checkpoint_last.pt") == update
    if update < EPOCH:
        assert [path.name for path in (tmp_path / "run").iterdir()] == ["checkpoint_last.pt"]
    monkeypatch.undo()
    succeed("fairseq-train", *german(tmp_path / "run", *options))
    assert_as_whole(tmp_path / "run", whole)


def test_stopped_before_the_first_update_at_once(german, fork, monkeypatch, tmp_path):
    options = german(tmp_path / "run")
    monkeypatch.setattr(CaptionTask, "check_validation_images", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    process = fork(tmp_path / "log", "fairseq-train", *options)
    assert ended(process, tmp_path / "log") == 143
    assert "stopped by SIGTERM before an update" in (tmp_path / "log").read_text().splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_ranks_stop_after_the_same_update(german, fork, during_update, monkeypatch, tmp_path):
    """Only one of them gets the signal."""

    def train(folder):
        options = german(folder, "--batch-size", 8, "--distributed-world-size", 2, "--max-epoch", 1)
        ranks = ["--distributed-no-spawn", "--distributed-init-method", f"file://{folder}.ranks"]
        logs = [tmp_path / f"log.{rank}" for rank in range(2)]
        processes = [
            fork(log, "fairseq-train", *options, *ranks, "--distributed-rank", rank) for rank, log in enumerate(logs)
        ]
        statuses = [ended(process, log) for process, log in zip(processes, logs)]
        (tmp_path / f"{folder.name}.ranks").unlink()
        return statuses, logs[0].read_text()

    assert train(tmp_path / "whole")[0] == [0, 0]
    for rank, update in enumerate((2, 4)):
        during_update(update, lambda: os.kill(os.getpid(), signal.SIGINT), rank)
        statuses, log = train(tmp_path / "run")
        assert statuses == [130, 130] and f"stopped by SIGINT at update {update};" in log
        monkeypatch.undo()
    assert train(tmp_path / "run")[0] == [0, 0]
    assert_as_whole(tmp_path / "run", tmp_path / "whole")


@needs_proc
def test_ranks_that_fairseq_train_spawns(german, fork, monkeypatch, tmp_path):
    """It passes the signal on to them and ends with their status. (They are forked: test_distributed_on_cpu.py spawns
    them as users' are.)"""
    start = partial(torch.multiprocessing.start_processes, start_method="fork")
    monkeypatch.setattr(torch.multiprocessing, "spawn", start)
    log = tmp_path / "log"
    options = german(tmp_path / "run", "--batch-size", 8, "--distributed-world-size", 2, "--max-epoch", 2000)
    process = fork(log, "fairseq-train", *options)
    while updates_in(log) < 3:
        assert process.is_alive(), log.read_text()
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGTERM)
    assert ended(process, log) == 143
    assert_group_ends(process.pid)
    reached = int(log.read_text().partition("stopped by SIGTERM at update ")[2].partition(";")[0])
    assert updates_of(tmp_path / "run" / "checkpoint_last.pt") == reached >= 3


@pytest.fixture(scope="module")
def english_and_german(learn, tmp_path_factory):
    """A whole sequence, and what to start another one with."""
    options = ["--max-epoch", "2"]
    whole = learn(tmp_path_factory.mktemp("sequence") / "whole", METHOD, "en,de", *options)
    return whole, options


@pytest.mark.parametrize("number", SIGNALS)
def test_stopped_sequence_goes_on_exactly(
    number, english_and_german, learn, fork, during_update, monkeypatch, corpus, sequence_options, read_json, tmp_path
):
    """The driver gets the signal. It passes it on, waits, and does not finish the language."""
    whole, options = english_and_german
    run, log = tmp_path / "run", tmp_path / "log"
    shutil.copytree(whole, run, ignore=shutil.ignore_patterns("01-de"))  # English is learned already
    during_update(9, lambda: os.kill(os.getppid(), number))
    order = ["--method", METHOD, "--order", "en,de"]
    driver = fork(log, "mlvl-cll", corpus, run, *order, *sequence_options, *options)
    assert ended(driver, log) == SIGNALS[number]
    assert f"de train: stopped by {number.name}; the same command continues" in log.read_text()
    assert "Traceback" not in (run / "01-de" / "train.log").read_text()
    assert updates_of(run / "01-de" / "checkpoint_last.pt") == 9 and not (run / "01-de" / "done.json").exists()
    costs = read_json(run / "01-de" / "costs.json")
    assert set(costs) == {"binarize", "train"} and costs["train"]["runs"] == 1 and costs["train"]["seconds"] > 0

    monkeypatch.undo()
    learn(run, METHOD, "en,de", *options)
    assert_same_run(run, whole)
    again = read_json(run / "01-de" / "costs.json")
    assert {job: entry["runs"] for job, entry in again.items()} == {
        "binarize": 2,
        "train": 2,
        "finish": 1,
        "evaluate": 1,
    }
    assert again["train"]["seconds"] > costs["train"]["seconds"] and again["train"]["peak_mib"] > 50


def test_stopped_evaluation_loses_no_score(learn, fork, monkeypatch, corpus, sequence_options, read_json, tmp_path):
    from mlvl_fairseq.continual import evaluation

    write = evaluation.write_json

    def write_and_signal(path, value):
        write(path, value)
        os.kill(os.getppid(), signal.SIGTERM)
        signal.pause()

    monkeypatch.setattr(evaluation, "write_json", write_and_signal)
    options = ["--method", METHOD, "--order", "en", *sequence_options]
    driver = fork(tmp_path / "log", "mlvl-cll", corpus, tmp_path / "run", *options)
    assert ended(driver, tmp_path / "log") == 143
    log = tmp_path / "run" / "00-en" / "eval.log"
    assert "Traceback" not in log.read_text()
    score = tmp_path / "run" / "scores" / "00-en" / "en.test.json"
    before = json.loads(score.read_text())
    monkeypatch.undo()
    learn(tmp_path / "run", METHOD, "en")
    assert read_json(score) == before
