"""Pre-training of CCLM on all kinds of streams: exact restarts, validation, and what cannot be used."""

import json
import random

import pytest
from processes import updates_of
from stream_files import NAMES, TRAINING, rows, write, write_streams
from test_exact_restart import kill_after

from mlvl_fairseq.checkpoints.comparison import differing

UPDATES = 18  # two epochs of three iterations, each of text, images in one language, and images or regions


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_streams(tmp_path_factory.mktemp("streams"))


@pytest.fixture(scope="module")
def training(pieces, user_dir):
    def options(*more):
        return ["--user-dir", user_dir, *TRAINING, "--tokenizer-folder", pieces, *more]

    return lambda *more: [str(option) for option in options(*more)]


def logged(out, name):
    """What the log says of a part of the run, ``train`` or ``valid``: JSON objects."""
    return [json.loads(line.partition(f"| {name} | ")[2]) for line in out.splitlines() if f"| {name} | " in line]


def test_killed_training_ends_as_if_undisturbed(training, files, fork, succeed, run, tmp_path):
    """Killed somewhere in the first epoch, which four streams take turns in, and continued with other workers."""
    saved = ["--max-epoch", 2, "--save-interval-updates", 2, "--keep-interval-updates", 1, "--held-out", 0.25]
    saved += ["--validate-interval-updates", 1000]
    whole = run("fairseq-train", *training(*files, *saved, "--save-dir", tmp_path / "whole"))
    assert whole.status == 0, whole.err[-3000:]
    log, last = tmp_path / "log", tmp_path / "killed" / "checkpoint_last.pt"
    process = fork(log, "fairseq-train", *training(*files, *saved, "--save-dir", last.parent))
    kill_after(process, log, random.Random(1).randrange(4, 8))
    undisturbed = tmp_path / "whole" / "checkpoint_last.pt"
    assert 0 < updates_of(last) < UPDATES // 2
    succeed("fairseq-train", *training(*files, *saved, "--save-dir", last.parent, "--num-workers", 1))
    assert differing(last, undisturbed) == [] and updates_of(last) == updates_of(undisturbed) == UPDATES
    valid = logged(whole.out + whole.err, "valid")[-1]
    means = {stream: float(valid[f"valid_{stream}_loss"]) for stream in NAMES.values()}
    assert min(means.values()) < float(valid["valid_loss"]) < max(means.values())


def test_joint_updates_and_records_that_cannot_be_used(training, run, tmp_path):
    """A line that is no JSON, a truncated picture, a box outside: left out and counted; or the end, in one line."""
    images, regions = rows("image_text", 9), rows("regions", 6)
    images[3]["binary"] = images[3]["binary"][:-9]
    regions[2]["elems"][0]["bb"] = [90, 90, 5, 5]
    path = write(tmp_path / "images.jsonl", images)
    path.write_text(path.read_text() + "{broken\n")
    streams = ["--image-text", path, "--regions", write(tmp_path / "regions.jsonl", regions), "--parallel-text"]
    streams += [write(tmp_path / "text.jsonl", rows("parallel_text", 9)), "--disable-validation"]
    given = training(*streams, "--update-freq", 2, "--max-epoch", 4, "--num-workers", 1, "--save-dir", tmp_path)
    ended = run("fairseq-train", *given)
    assert "(--bad-record skip goes on without what cannot be used)" in ended.error
    ended = run("fairseq-train", *given, "--bad-record", "skip")
    assert ended.status == 0, ended.err[-3000:]
    said = ended.out + ended.err
    assert updates_of(tmp_path / "checkpoint_last.pt") == 8  # two iterations an epoch, each an update
    for problem in ("images.jsonl:4 field 'binary': is no base64", "images.jsonl:10: not valid JSON"):
        assert said.count(problem) == 1
    assert said.count("regions.jsonl:3 field 'elems[0].bb': [90, 90, 5, 5] is outside") <= 1
    found = sum(int(epoch.get("train_bad_records", 0)) for epoch in logged(said, "train"))
    assert found == said.count("| bad record ")
