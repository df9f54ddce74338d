"""Pre-training of CCLM on all kinds of streams: exact restarts, validation, and what cannot be used."""

import json
import logging
import random

import pytest
from processes import updates_of
from stream_files import NAMES, TRAINING, rows, write, write_streams
from test_exact_restart import kill_after

from mlvl_fairseq.checkpoints.comparison import differing

UPDATES = 12  # two epochs of two iterations, each of text, images in one language, and images or regions
COSTS = ("wps", "wall")  # ends of names


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_streams(tmp_path_factory.mktemp("streams"), 11)


@pytest.fixture(scope="module")
def training(pieces, user_dir):
    def options(*more):
        return ["--user-dir", user_dir, *TRAINING, "--tokenizer-folder", pieces, *more]

    return lambda *more: [str(option) for option in options(*more)]


@pytest.fixture
def logged(run, caplog):
    """``logged("train", ...)``: how fairseq-train ended, and what it logs of ``train`` or ``valid``: JSON objects."""

    def command(name, *arguments):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            ended = run("fairseq-train", *arguments)
        lines = [json.loads(record.getMessage()) for record in caplog.records if record.name == name]
        return ended, [{key: value for key, value in line.items() if not key.endswith(COSTS)} for line in lines]

    return command


def test_killed_training_ends_as_if_undisturbed(training, files, fork, logged, tmp_path):
    """Killed somewhere in the first epoch, which four streams take turns in, and continued with other workers."""
    saved = ["--max-epoch", 2, "--save-interval-updates", 2, "--keep-interval-updates", 1, "--held-out", 0.25]
    saved += ["--region-images", 2]
    ended, (*_, valid) = logged("valid", *training(*files, *saved, "--save-dir", tmp_path / "whole"))
    assert ended.status == 0, ended.err[-3000:]
    log, last = tmp_path / "log", tmp_path / "killed" / "checkpoint_last.pt"
    process = fork(log, "fairseq-train", *training(*files, *saved, "--save-dir", last.parent))
    kill_after(process, log, random.Random(1).randrange(3, 6))
    undisturbed = tmp_path / "whole" / "checkpoint_last.pt"
    assert 0 < updates_of(last) < UPDATES // 2
    ended, again = logged("valid", *training(*files, *saved, "--save-dir", last.parent, "--num-workers", 1))
    assert ended.status == 0, ended.err[-3000:]
    assert differing(last, undisturbed) == [] and updates_of(last) == updates_of(undisturbed) == UPDATES
    assert again[-1] == valid
    means = [float(valid[f"valid_{stream}_loss"]) for stream in NAMES.values()]
    assert min(means) < float(valid["valid_loss"]) < max(means)


def test_joint_updates_and_records_that_cannot_be_used(training, logged, caplog, tmp_path):
    """A line that is no JSON, a truncated picture, boxes outside: left out and counted; or the end, in one line."""
    images, regions = rows("image_text", 7), rows("regions", 6)
    images[3]["binary"] = images[3]["binary"][:-9]
    for region in regions:
        region["elems"][0]["bb"] = [90, 90, 5, 5]
        region["elems"][1]["bb"] = [40, 30, 30, 5]
    path = write(tmp_path / "images.jsonl", images)
    path.write_text(path.read_text() + "{broken\n")
    text = write(tmp_path / "text.jsonl", rows("parallel_text", 9))
    streams = ["--regions", write(tmp_path / "regions.jsonl", regions), "--parallel-text", text, "--region-images", 1]
    own = ["--image-text", path, "--tlm", "--text-max-length", 40, "--disable-validation", "--save-dir", tmp_path]
    given = training(*streams, *own, "--update-freq", 2, "--max-epoch", 3, "--num-workers", 1)
    ended, _ = logged("train", *given)
    assert "(--bad-record skip goes on without what cannot be used)" in ended.error
    ended, epochs = logged("train", *given, "--bad-record", "skip")
    assert ended.status == 0, ended.err[-3000:]
    assert updates_of(tmp_path / "checkpoint_last.pt") == 6  # two iterations an epoch, each an update
    for problem in ("images.jsonl:4 field 'binary': is no base64", "images.jsonl:8: not valid JSON"):
        assert caplog.text.count(problem) == 1
    outside = caplog.text.count("field 'elems[0].bb': [90, 90, 5, 5] is outside")
    assert outside and sum(int(epoch.get("train_bad_records", 0)) for epoch in epochs) == outside + 2
    assert sum(int(epoch.get("train_clipped_boxes", 0)) for epoch in epochs) >= outside
    assert not any("train_text_ttm" in epoch for epoch in epochs) and "train_text_mlm" in epochs[0]
