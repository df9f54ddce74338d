"""Files that would run code if they were loaded as fairseq, torch and numpy can load them: refused, not executed."""

import os
import pickle
import shutil

import numpy as np
import pytest
import torch

from mlvl_fairseq.data.corpus import Corpus


class Payload:
    """Pickles as a shell command that leaves a file."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch '{self.marker}'",)


@pytest.fixture
def marker(tmp_path):
    """What the payload would leave; it must not be there when the test ends."""
    path = tmp_path / "executed"
    yield path
    assert not path.exists()


@pytest.fixture(params=["zip", "legacy", "pickle"])
def checkpoint(request, marker, tmp_path, teacher):
    """A checkpoint with a payload, in each of the formats that torch.load reads."""
    path = tmp_path / "evil.pt"
    if request.param == "pickle":
        path.write_bytes(pickle.dumps(Payload(marker)))
    else:
        content = {"model": {}, "cfg": Payload(marker), "extra_state": {}, "optimizer_history": []}
        torch.save(content, path, _use_new_zipfile_serialization=request.param == "zip")
    return path


def array(path, marker):
    np.save(path, np.array([Payload(marker)], dtype=object), allow_pickle=True)
    return path


def test_control_the_payload_works(tmp_path):
    for name, load in {
        "a.npy": lambda path: np.load(array(path, tmp_path / "a"), allow_pickle=True),
        "b.pt": lambda path: torch.save(Payload(tmp_path / "b"), path) or torch.load(path, weights_only=False),
    }.items():
        load(tmp_path / name)
        assert (tmp_path / name[0]).exists()


@pytest.mark.parametrize("option", ["--init-from", "--finetune-from-model", "--restore-file"])
def test_training(run, cll, checkpoint, tmp_path, option):
    options = cll("de", "en")
    if option == "--init-from":
        options[options.index("--init-from") + 1] = checkpoint
    ended = run("fairseq-train", *options, option, checkpoint, "--save-dir", tmp_path / "run")
    assert "evil.pt" in ended.error
    assert not list(tmp_path.glob("run/*.pt"))


def test_resuming(run, cll, checkpoint, tmp_path):
    last = shutil.copy(checkpoint, tmp_path / "checkpoint_last.pt")
    ended = run("fairseq-train", *cll("en"), "--save-dir", tmp_path)
    assert str(last) in ended.error


def test_evaluation(run, world, checkpoint):
    captions = ["--captions", world / "test.de.json", "--lang", "de", "--image-root", world / "images"]
    assert "evil.pt" in run("mlvl-evaluate", "--checkpoint", checkpoint, *captions).error


def test_teacher(run, corpus, checkpoint):
    assert "evil.pt" in run("mlvl-prepare", corpus, "--teacher", checkpoint).error


def test_sequence(run, corpus, sequence_options, checkpoint, tmp_path):
    more = ["--order", "en,de", *sequence_options, "--init-from", checkpoint]
    assert "evil.pt" in run("mlvl-cll", corpus, tmp_path / "run", *more).error


@pytest.mark.parametrize("kind", ["image", "text"])
def test_teacher_features(run, cll, own_corpus, marker, tmp_path, kind):
    path = array(own_corpus / "features" / f"train.{kind}.npy", marker)
    ended = run("fairseq-train", own_corpus, *cll("en")[1:], "--save-dir", tmp_path / "run")
    assert str(path) in ended.error


def test_rows(run, cll, own_corpus, marker, tmp_path):
    path = array(own_corpus / "captions" / "train.en.rows.npy", marker)
    ended = run("fairseq-train", own_corpus, *cll("en")[1:], "--save-dir", tmp_path / "run")
    assert str(path) in ended.error


def test_given_features(run, world, caption_patterns, teacher, marker, tmp_path):
    path, names = array(tmp_path / "evil.npy", marker), tmp_path / "names.txt"
    rows = (world / "train.vision-en-en.tsv").read_text(encoding="utf-8").splitlines()
    names.write_text("".join(f"{name}\n" for name in sorted({row.partition("\t")[0] for row in rows})))
    options = ["--image-features", f"train={path}", "--image-list", f"train={names}"]
    assert str(path) in run("mlvl-prepare", tmp_path / "corpus", *caption_patterns, *options).error
    options = ["--image-features", path, "--image-list", names]
    captions = ["--captions", world / "test.de.json", "--lang", "de"]
    assert str(path) in run("mlvl-evaluate", "--checkpoint", teacher, *captions, *options).error


@pytest.mark.parametrize("name", ["dict.txt", "vocab.json", "merges.txt", "en/train.idx", "en/train.bin"])
def test_vocabulary_and_tokens(run, cll, own_corpus, marker, tmp_path, name):
    path = own_corpus / "bin" / "en" / name
    path.write_bytes(pickle.dumps(Payload(marker)))
    ended = run("fairseq-train", own_corpus, *cll("en")[1:], "--save-dir", tmp_path / "run")
    assert str(path).rpartition(".")[0] in ended.error


def test_corpus_manifest(run, own_corpus, marker):
    Corpus(own_corpus)
    (own_corpus / "corpus.json").write_bytes(pickle.dumps(Payload(marker)))
    assert "corpus.json" in run("mlvl-prepare", own_corpus).error
