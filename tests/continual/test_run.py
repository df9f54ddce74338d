"""The jobs of a sequence: in which order, with which log, and that what is done is not done again."""

import json
import logging
import sys
from dataclasses import replace
from types import SimpleNamespace

import fairseq_cli.train
import pytest

from mlvl_fairseq.continual import run
from mlvl_fairseq.continual.sequence import Sequence, Settings

SETTINGS = Settings(
    method="cll_clip", preset="default", protocol="sequence", languages=["en", "de"], corpus="c", init_from=None,
    arch="clip_tiny", max_epoch=2, max_update=0, batch_size=16, lr=0.1, warmup_ratio=0.1, seed=1, eval_split="test",
    extra=["--cpu"],
)  # fmt: skip
CAPTIONS = {"en": 100, "de": 64}
CORPUS = SimpleNamespace(
    manifest={"splits": {"train": {"captions": CAPTIONS}}}, usable=lambda split, lang: range(CAPTIONS[lang])
)
SCORES = {("00-en", "en"): 60.0, ("01-de", "en"): 48.0, ("01-de", "de"): 51.5}
EVERYTHING = [
    ("[1/2] en binarize", "00-en/train.log", None),
    ("[1/2] en train", "00-en/train.log", 12),  # two epochs of 6 full batches
    ("[1/2] en finish", "00-en/train.log", None),
    ("[1/2] en evaluate", "00-en/eval.log", None),
    ("[2/2] de binarize", "01-de/train.log", None),
    ("[2/2] de train", "01-de/train.log", 8),
    ("[2/2] de finish", "01-de/train.log", None),
    ("[2/2] de evaluate", "01-de/eval.log", None),
]


@pytest.fixture
def sequence(tmp_path):
    return Sequence(tmp_path / "run", SETTINGS)


@pytest.fixture
def jobs(sequence, monkeypatch):
    """Title, log and updates of each job, whose work is done here: a finished step, or the scores that are missing."""
    seen = []

    def run_job(title, function, log, total=None, costs=None):
        seen.append((title, str(log.relative_to(sequence.folder)), total))
        assert callable(function) and costs is not None
        step = int(title[1]) - 1
        log.parent.mkdir(parents=True, exist_ok=True)
        if title.endswith("finish"):
            sequence.folder_of(step).done.write_text("{}")
        if title.endswith("evaluate"):
            for lang in sequence.missing_scores(step):
                path = sequence.score_path(step, lang)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps({"r_mean": SCORES[sequence.steps[step].name, lang]}))

    monkeypatch.setattr(run, "run_job", run_job)
    return seen


def test_each_language_is_binarized_trained_finished_and_scored_in_turn(sequence, jobs, caplog):
    with caplog.at_level(logging.INFO):
        run._run_steps(sequence, CORPUS)
    assert jobs == EVERYTHING
    assert "[1/2] en: r_mean en 60.0 | average 60.0" in caplog.text
    assert "[2/2] de: r_mean en 48.0 de 51.5 | average 49.8" in caplog.text
    assert f"mlvl-report {sequence.folder}" in caplog.text


@pytest.mark.parametrize("extra, times", [([], 0), (["--compile"], 2)])
def test_compiling_is_told_once_a_language(sequence, jobs, caplog, extra, times):
    sequence.settings = replace(SETTINGS, extra=["--cpu", *extra])
    with caplog.at_level(logging.INFO):
        run._run_steps(sequence, CORPUS)
    told = [record.getMessage() for record in caplog.records if " compiling " in record.getMessage()]
    languages = [f"[{step}/2] {lang} train: " for step, lang in ((1, "en"), (2, "de"))][:times]
    assert told == [f"{lang}compiling the text tower's blocks, once a language" for lang in languages]


@pytest.mark.parametrize(
    "extra, keeps",
    [
        (["--save-interval-updates", "10"], False),
        (["--keep-interval-updates", "1"], True),
        (["--keep-interval-updates=-1"], True),
    ],
)
def test_who_says_how_many_checkpoints_of_intervals_to_keep_keeps_them(tmp_path, extra, keeps):
    assert Sequence(tmp_path, replace(SETTINGS, extra=extra)).keeps_interval_checkpoints == keeps


def test_what_is_done_is_not_done_again(sequence, jobs):
    run._run_steps(sequence, CORPUS)
    jobs.clear()
    run._run_steps(sequence, CORPUS)
    assert jobs == []
    sequence.score_path(1, "en").unlink()
    run._run_steps(sequence, CORPUS)
    assert jobs == EVERYTHING[-1:]
    jobs.clear()
    sequence.folder_of(0).done.unlink()  # its scores are there: they stay
    run._run_steps(sequence, CORPUS)
    assert jobs == EVERYTHING[:3]


def test_training_is_fairseq_train_s_own(monkeypatch):
    seen = []
    monkeypatch.setattr(sys, "argv", ["mlvl-cll"])
    monkeypatch.setattr(fairseq_cli.train, "cli_main", lambda: seen.append(list(sys.argv)))
    run.fairseq_train(["corpus", "--lr", "0.1"])
    assert seen == [["fairseq-train", "corpus", "--lr", "0.1"]]
