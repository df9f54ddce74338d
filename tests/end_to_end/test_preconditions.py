"""What any language of a sequence needs is asked for before the first update; nothing is made where it is not there."""

import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from fairseq.logging import progress_bar

from mlvl_fairseq.continual import preconditions
from mlvl_fairseq.errors import UserError


@pytest.fixture
def refused(run, own_corpus, sequence_options, tmp_path):
    """``refused(options..., order=...)``: the error of an mlvl-cll on the test's corpus, which has made nothing."""

    def error(*more, order="en,de,ru"):
        before = sorted(own_corpus.rglob("*"))
        command = ["mlvl-cll", own_corpus, tmp_path / "run", "--method", "cll_clip", "--order", order]
        ended = run(*command, *sequence_options, *more)
        assert not (tmp_path / "run").exists() and sorted(own_corpus.rglob("*")) == before
        return ended.error

    return error


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def test_captions_of_the_third_language_that_are_not_text(refused, own_corpus):
    path = own_corpus / "captions" / "valid.ru.txt"
    path.write_bytes(b"\xff\n" + path.read_bytes())
    assert refused().startswith(f"{path}: not UTF-8")


def test_captions_of_the_third_language_that_end_early(refused, own_corpus):
    path = own_corpus / "captions" / "test.ru.txt"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:-3]), encoding="utf-8")
    message = f"has {len(lines) - 3} lines, not the {len(lines)} of corpus.json"
    assert refused().startswith(f"{path}: {message}")


@pytest.mark.parametrize("column, value", [(0, 60), (1, -2)])
def test_rows_of_the_third_language_that_point_nowhere(refused, own_corpus, column, value):
    path = own_corpus / "captions" / "train.ru.rows.npy"
    rows = np.load(path)
    rows[4, column] = value
    np.save(path, rows)
    assert refused().startswith(f"{path}: points to images or English sentences that are not there")


def test_captions_of_the_third_language_without_english_are_named(refused, own_corpus):
    path = own_corpus / "captions" / "train.ru.rows.npy"
    rows = np.load(path)
    rows[[1, 5, 6, 7], 1] = -1
    np.save(path, rows)
    text = own_corpus / "captions" / "train.ru.txt"
    captions = text.read_text(encoding="utf-8").splitlines()
    error = refused()
    assert error.startswith("4 training captions of 'ru' have no English sentence to learn from (")
    assert all(f"{text}:{row + 1} '{captions[row]}'; " in error for row in (1, 5, 6)) and f"{text}:8" not in error


@pytest.mark.parametrize("split, kind", [("valid", "image"), ("train", "text"), ("test", "image")])
def test_a_teacher_of_another_dimension_in_one_split(refused, other_features, split, kind):
    path = other_features(split, kind, 16)
    assert refused().startswith(f"{path}: these features have 16 dimensions, the model's 32")


@pytest.mark.parametrize(
    "wrong, said",
    [
        ("--foo 3", "fairseq-train: unrecognized arguments: --foo 3"),
        ("--arch nix", "no --arch nix; there are: "),
        ("--autocast fp8", "fairseq-train: argument --autocast: "),
        ("--eval-split nix", "nix"),
        ("--init-from nix.pt", "nix.pt: no such file"),
        ("--no-save", "--no-save: the next language starts from the best checkpoint"),
    ],
)
@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_a_dry_run_refuses_what_a_run_does(refused, wrong, said, dry):
    assert said in refused(*wrong.split(), *dry)


def test_no_features_of_the_split_that_is_evaluated(refused, own_corpus):
    (own_corpus / "features" / "test.image.json").unlink()
    assert "has no teacher features of the test split: run mlvl-prepare" in refused()


@pytest.mark.parametrize("name", ["bpe/ru.10000/vocab.json", "bin/en+de+ru/vocab.json", "bin/en+de+ru/ru/train.bin"])
def test_a_damaged_vocabulary_or_file_of_the_third_language(refused, own_corpus, name):
    path = cut(own_corpus / name)
    assert refused().startswith(f"{path}: ")


def test_damaged_weights(refused, teacher, tmp_path):
    path = cut(shutil.copy(teacher, tmp_path / "part.pt"))
    assert refused("--init-from", path).startswith(f"{path}: ")


@pytest.mark.parametrize("options, message", [
    ("--no-such-option 1", "fairseq-train: unrecognized arguments: --no-such-option 1"),
    ("--clip-nrom 1", "fairseq-train: unrecognized arguments: --clip-nrom 1"),
    ("--clip-norm many", "fairseq-train: argument --clip-norm: invalid float value: 'many'"),
    ("--best-checkpoint-metric rmean", "--best-checkpoint-metric rmean: validation has loss, cross_lingual, "),
    ("--replay-method derpp", "--replay-method derpp needs a memory: give --memory-size"),
    ("--memory-size 9 --replay-method none", "no --replay-method none; there are: auto, "),
    ("--regularize grad --grad-scale-type all", "no row scale 'all'; there are: "),
    ("--adapter lora --lora-rank 0", "--lora-rank 0 is less than 1"),
    ("--optimizer adam", "cll_retrieval needs --optimizer row_adamw"),
    ("--freeze nothing_like_this", "--freeze 'nothing_like_this'"),
    ("--disable-validation", "--disable-validation: the next language starts from the best checkpoint"),
    ("--validate-interval 2", "--validate-interval 2 and --save-interval 1: none of 1 epochs"),
    ("--save-dir elsewhere", "--save-dir elsewhere: mlvl-cll says that itself"),
    ("--lang xx", "--lang xx: mlvl-cll says that itself"),
    ("--max-epoch 0", "argument --max-epoch: 0 is not a whole number of at least 1"),
    ("--lr nan", "argument --lr: nan is not a positive number"),
    ("--eval-split test2", "no test2 captions in language 'en'"),
])  # fmt: skip
def test_options_that_no_step_could_use(refused, options, message):
    error = refused(*options.split())
    assert message in error and "\n" not in error


def test_a_folder_that_cannot_be_written(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=f"{tmp_path}/file is a file: give another folder"):
        preconditions.check_folder(tmp_path / "file" / "run")
    preconditions.check_folder(tmp_path / "new" / "run")
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path or mode != os.W_OK | os.X_OK)
    with pytest.raises(UserError, match=f"{tmp_path} is read-only: nothing can be written there"):
        preconditions.check_folder(tmp_path / "new" / "run")


def test_a_disk_without_room_for_all_checkpoints(refused, monkeypatch):
    """Three languages leave a checkpoint each, and two more are there while the last one trains: each of an embedding
    with more than 49,408 rows of 32 numbers."""
    free = 5 * 49_408 * 32 * 4
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    assert "3 checkpoints and two more while training need at least 36 MiB, 30 MiB are free" in refused()


def test_tensorboard_that_is_not_installed(refused, monkeypatch):
    monkeypatch.setattr(progress_bar, "SummaryWriter", None)
    assert refused("--tensorboard-logdir", "logs").endswith("pip install 'mlvl_fairseq[tensorboard]'")


def test_options_of_what_is_off_are_told_once_and_the_run_goes_on(succeed, corpus, sequence_options, tmp_path, caplog):
    typed = ["--lora-rank", 4, "--ewc-batches", 30]
    command = ["mlvl-cll", corpus, tmp_path / "run", "--method", "cll_clip", "--order", "en", *sequence_options]
    succeed(*command, "--max-update", 1, *typed)
    told = [message for message in caplog.messages if "without effect" in message]  # of mlvl-cll, not of its jobs
    assert len(told) == 1
    assert "--ewc-batches 30 (only with --ewc-scale), --lora-rank 4 (only with --adapter lora)" in told[0]
