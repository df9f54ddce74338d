"""Learning a language from two data sets: their batches take turns, and each is validated and evaluated apart."""

import json
import logging

import pytest

from mlvl_fairseq.checkpoints.comparison import differing, largest_difference
from mlvl_fairseq.data.corpus import Corpus
from mlvl_fairseq.tasks.cll_retrieval import CllRetrievalTask


@pytest.fixture
def english(cll, two_data_sets, tmp_path):
    """``english(name, *more)``: fairseq-train's arguments for English in batches of 16; 40 captions of the smaller set
    are two."""
    options = ["--data-sets", "picture0,small", "--max-epoch", 3, "--save-interval-updates", 1]
    _, *arguments = cll("en", method="cll_clip_with_teir")
    return lambda name, *more: [two_data_sets, *arguments, *options, "--save-dir", tmp_path / name, *more]


@pytest.fixture
def batches(monkeypatch):
    """The data sets and the captions of every batch of training."""
    seen, step = [], CllRetrievalTask.train_step

    def train_step(self, sample, *args, **kwargs):
        (data_set,) = set(sample["data_set_ids"].tolist())
        seen.append((data_set, sample["id"].tolist()))
        return step(self, sample, *args, **kwargs)

    monkeypatch.setattr(CllRetrievalTask, "train_step", train_step)
    return seen


def test_batches_take_turns(english, two_data_sets, batches, succeed, caplog):
    """One of each in turn, as many of each as the smaller set has. Its captions come in every epoch, those of the
    larger one go on until all have come."""
    with caplog.at_level(logging.INFO):
        succeed("fairseq-train", *english("run"))
    assert [data_set for data_set, _ in batches] == [0, 1, 0, 1] * 3
    assert all(len(ids) == 16 for _, ids in batches)
    corpus = Corpus(two_data_sets)
    sizes = [int(corpus.members("train", "en", name).sum()) for name in ("picture0", "small")]
    assert sizes == [120, 40]
    drawn = [[ids for own, captions in batches if own == data_set for ids in captions] for data_set in (0, 1)]
    assert len(set(drawn[0])) == 96 and len(set(drawn[1][:32])) == 32 and len(set(drawn[1])) == 40
    names, rows = corpus.images("train"), corpus.rows("train", "en")
    for captions, name in zip(drawn, ("picture0", "small")):
        assert all(names[rows[caption, 0]].startswith(f"{name}/") for caption in captions)
    assert {"train: data set picture0 has 120 captions", "train: data set small has 40 captions"} <= set(
        caplog.messages
    )
    assert "an epoch has 2 batches of each of picture0, small" in caplog.messages
    *_, scores = (json.loads(message) for message in caplog.messages if '"valid_r_mean_small"' in message)
    means = [float(scores[f"valid_r_mean_{name}"]) for name in ("picture0", "small")]
    assert float(scores["valid_r_mean"]) == pytest.approx(sum(means) / 2, abs=2e-3) and means[0] != means[1]


@pytest.mark.parametrize("moments", ["shared", "own"])
def test_stopped_within_an_epoch_it_ends_as_if_undisturbed(english, batches, succeed, tmp_path, moments):
    more = ["--data-set-moments", moments]
    succeed("fairseq-train", *english("whole", *more))
    whole = list(batches)
    batches.clear()
    succeed("fairseq-train", *english("stopped", *more, "--max-update", 5))
    assert batches == whole[:5]
    succeed("fairseq-train", *english("stopped", *more))
    assert batches == whole
    for name in ("checkpoint_best.pt", "checkpoint_last.pt"):
        assert differing(tmp_path / "stopped" / name, tmp_path / "whole" / name) == []


def test_moments_of_its_own_for_each_data_set(english, succeed, tmp_path):
    for moments in ("shared", "own"):
        succeed("fairseq-train", *english(moments, "--data-set-moments", moments, "--max-update", 2))
    assert largest_difference(*(tmp_path / name / "checkpoint_last.pt" for name in ("shared", "own"))) > 1e-5


@pytest.mark.parametrize(
    "more, message",
    [
        (["--data-sets", "small"], "--data-sets small: name several different data sets"),
        (["--data-sets", "picture0,smaller"], "captions are of none of them, the first of image 'small/"),
        (["--batch-size", 41], "a data set has 40 captions, less than a batch of 41"),
        (["--max-tokens", 500], "--data-sets needs --batch-size, and no --max-tokens"),
        (["--data-sets", "", "--data-set-moments", "own"], "--data-set-moments own goes with --data-sets"),
        (["--update-freq", 2, "--data-set-moments", "own"], "updates of one data set each: leave --update-freq at 1"),
    ],
)
def test_what_does_not_fit_is_said_in_a_line(english, run, more, message):
    assert message in run("fairseq-train", *english("run", *more)).error


def test_a_sequence_is_scored_on_each_data_set(two_data_sets, succeed, sequence_options, tmp_path, read_json):
    """Warm-up is of the updates that there are; a data set's part of a split is a split of its own."""
    folder = tmp_path / "run"
    sets = ["--data-sets", "picture0,small", "--warmup-ratio", 0.5]
    learn = ["mlvl-cll", two_data_sets, folder, "--method", "cll_clip", "--order", "en,de", *sequence_options, *sets]
    assert "--warmup-updates=2 " in succeed(*learn, "--dry-run")
    succeed(*learn, "--eval-split", "test@small")
    assert read_json(folder / "01-de" / "done.json")["num_updates"] == 4
    scores = [read_json(folder / "scores" / "01-de" / f"{lang}.test@small.json") for lang in ("en", "de")]
    assert all("|split:test@small|" in own["signature"] and "|images:12|" in own["signature"] for own in scores)
    succeed("mlvl-report", folder, "--split", "test@small", "--output", tmp_path / "report")
    assert "test@small" in (tmp_path / "report" / "report.md").read_text()
