"""Wrong or damaged input: one clear line on standard error, exit status 2, and what was there before is intact."""

import contextlib
import json
import resource
import shutil

import numpy as np
import pytest
from run_comparison import assert_same_run

from mlvl_fairseq.continual import evaluation
from mlvl_fairseq.data.corpus.corpus import Corpus
from mlvl_fairseq.runs import costs


@pytest.fixture
def train(run, own_corpus, cll, tmp_path):
    """The error of fairseq-train on the test's own corpus; it leaves no checkpoint."""

    def error(lang="en", learned=None, *more):
        options = [own_corpus, *cll(lang, learned)[1:], "--max-epoch", 1, *more, "--save-dir", tmp_path / "run"]
        ended = run("fairseq-train", *options)
        assert not list(tmp_path.glob("run/*.pt"))
        return ended.error

    return error


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


# Damaged files


@pytest.mark.parametrize("option", ["--init-from", "--finetune-from-model", "--restore-file"])
def test_truncated_checkpoint(train, english, tmp_path, option):
    path = cut(shutil.copy(english("cll_clip"), tmp_path / "part.pt"))
    assert str(path) in train("de", "en", option, path)


def test_truncated_checkpoint_is_not_evaluated(run, world, english, tmp_path):
    path = cut(shutil.copy(english("cll_clip"), tmp_path / "part.pt"))
    images = ["--captions", world / "test.de.json", "--lang", "de", "--image-root", world / "images"]
    assert str(path) in run("mlvl-evaluate", "--checkpoint", path, *images).error


@pytest.mark.parametrize("kind", ["image", "text"])
def test_truncated_features(train, own_corpus, kind):
    path = cut(own_corpus / "features" / f"train.{kind}.npy")
    assert f"{path}: is truncated" in train()


@pytest.mark.parametrize("suffix", ["bin", "idx"])
def test_truncated_tokens(train, own_corpus, suffix):
    path = cut(own_corpus / "bin" / "en" / "en" / f"train.{suffix}")
    assert f"{path}: is truncated" in train()


# Files that do not fit each other


@pytest.mark.parametrize("kind, names", [("image", "images/train.txt"), ("text", "captions/train.english.txt")])
def test_features_of_other_rows(train, own_corpus, kind, names):
    lines = (own_corpus / names).read_text().splitlines(keepends=True)
    (own_corpus / names).write_text("".join([lines[1], lines[0], *lines[2:]]))
    assert f"train.{kind}.npy: its rows have other names or another order" in train()


def test_features_with_too_few_rows(train, own_corpus):
    path = own_corpus / "features" / "train.image.npy"
    np.save(path, np.load(path)[:-1])
    assert f"{path}: is float32 (59, 32), its manifest says float32 (60, 32)" in train()


def test_features_of_two_teachers(train, own_corpus):
    manifest = own_corpus / "features" / "train.text.json"
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**content, "weights_fingerprint": "0" * 64}))
    error = train()
    assert "train.text" in error and "teacher" in error


def test_features_of_another_dimension(train):
    error = train("en", None, "--embed-dim", 16, "--init-from", "")
    assert "32" in error and "16" in error and "--embed-dim" in error


def test_another_teacher_for_a_prepared_corpus(run, own_corpus, teacher, english):
    before = {path: path.read_bytes() for path in (own_corpus / "features").iterdir()}
    ended = run("mlvl-prepare", own_corpus, "--teacher", english("cll_clip_with_teir"))
    assert f"made with model {teacher}, now it is {english('cll_clip_with_teir')}" in ended.error
    assert {path: path.read_bytes() for path in (own_corpus / "features").iterdir()} == before


def test_no_teacher_features(train, own_corpus):
    shutil.rmtree(own_corpus / "features")
    assert "no teacher features" in train() and "mlvl-prepare" in train()


def test_vocabulary_of_another_order(train, run, own_corpus, english):
    """A checkpoint that has learned English, given as one that has learned German."""
    assert run("mlvl-prepare", own_corpus, "--order", "de,ru").status == 0
    error = train("ru", "de", "--finetune-from-model", english("cll_clip"))
    assert "vocabulary does not fit" in error and "order" in error


def test_checkpoint_of_another_place_in_the_sequence(train, english):
    error = train("ru", "en,de", "--finetune-from-model", english("cll_clip"))
    assert error == "the checkpoint has learned 1 language(s); this run needs one that has learned 2"


def test_checkpoint_is_missing(train):
    assert train("de", "en") == "'de' comes after en: give their checkpoint as --finetune-from-model"
    assert "gone.pt" in train("de", "en", "--finetune-from-model", "gone.pt")


def test_checkpoint_on_other_frozen_weights(train, succeed, own_corpus, teacher_options, english, tmp_path):
    """The English checkpoint holds what was trained; the frozen rest is the teacher's."""
    succeed("fairseq-train", own_corpus, *teacher_options, "--max-update", 1, "--save-dir", tmp_path / "other")
    other = tmp_path / "other" / "checkpoint_best.pt"
    error = train("de", "en", "--finetune-from-model", english("cll_clip"), "--init-from", other)
    assert "other frozen weights" in error


def test_weights_of_another_size(train, teacher):
    error = train("en", None, "--text-layers", 2)
    assert str(teacher) in error and "layers 1, not 2" in error and "--arch" in error


# Names that nobody knows


def test_unknown_language(train, run, corpus, own_corpus, sequence_options, tmp_path):
    assert "no train captions in language 'xx' (there are: en, de, ru)" in train("xx")
    ended = run("mlvl-cll", corpus, tmp_path / "sequence", "--order", "en,xx", *sequence_options)
    assert "no train captions in language 'xx' (there are: en, de, ru)" in ended.error
    assert "'xx'" in run("mlvl-prepare", own_corpus, "--order", "en,xx").error
    assert not (tmp_path / "sequence").exists() and not list((own_corpus / "bin").glob("*xx*"))


def test_unknown_method(run, corpus, sequence_options, tmp_path):
    ended = run("mlvl-cll", corpus, tmp_path / "run", "--method", "cll_clap", "--order", "en,de", *sequence_options)
    assert "no method 'cll_clap': did you mean cll_clip" in ended.error
    assert not (tmp_path / "run").exists()


def test_unknown_architecture_and_weights(run, corpus, tmp_path):
    arguments = ["mlvl-cll", corpus, tmp_path / "run", "--order", "en,de", "--cpu"]
    assert "no --arch clip_tini; there are: clip_vit_b32, " in run(*arguments, "--arch", "clip_tini").error
    missing = tmp_path / "nowhere.pt"
    assert f"--init-from {missing}: no such file" in run(*arguments, "--init-from", missing).error
    assert not (tmp_path / "run").exists()


# Captions


@pytest.fixture
def prepare(run, world, tmp_path):
    """mlvl-prepare with a file of German training captions made of given bytes."""

    def command(content, *more):
        captions = tmp_path / "train.de.json"
        captions.write_bytes(content)
        files = ["--languages", "de", "--train", captions, "--valid", world / "valid.de.json"]
        return run("mlvl-prepare", tmp_path / "corpus", *files, "--source-lang", "de", *more)

    return command


def rows(*captions):
    return b"[%s]" % b",".join(b'{"image": "%d.png", "caption": "%s"}' % pair for pair in enumerate(captions))


@pytest.mark.parametrize("content", [b"", b"[]", rows(b"", b" ")])
def test_empty_caption_file(prepare, content, tmp_path):
    assert str(tmp_path / "train.de.json") in prepare(content).error
    assert not (tmp_path / "corpus" / "corpus.json").exists()


def test_captions_that_are_not_utf8_are_counted(prepare, tmp_path):
    content = rows(b"ein Haus", "eine Tür".encode("latin-1"), b"ein Baum")
    assert prepare(content).status == 0
    corpus = Corpus(tmp_path / "corpus")
    assert corpus.captions("train", "de") == ["ein Haus", "ein Baum"]
    assert corpus.manifest["splits"]["train"]["problems"] == {"de": {"bad encoding": 1}}


def test_captions_that_are_not_utf8_can_stop_it(prepare, tmp_path):
    error = prepare(rows(b"ein Haus", "eine Tür".encode("latin-1")), "--on-problem", "error").error
    assert "train.de.json:2 field 'caption'" in error
    assert not (tmp_path / "corpus" / "corpus.json").exists()


def test_too_few_validation_images(succeed, run, world, teacher, cll, tmp_path):
    captions = json.loads((world / "valid.en.json").read_text())[:9]
    (tmp_path / "valid.json").write_text(json.dumps(captions))
    files = ["--train", world / "train.en.json", "--valid", tmp_path / "valid.json", "--image-root", world / "images"]
    succeed("mlvl-prepare", tmp_path / "corpus", "--languages", "en", *files, "--order", "en", "--teacher", teacher)
    options = [tmp_path / "corpus", *cll("en")[1:], "--max-epoch", 1, "--save-dir", tmp_path / "run"]
    assert "the validation set has 9 images" in run("fairseq-train", *options).error
    assert not list(tmp_path.glob("run/*.pt"))
    succeed("fairseq-train", *options, "--disable-validation")


# A full disk


@contextlib.contextmanager
def room_for(megabytes):
    """No file may become larger: every write beyond fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(megabytes * 2**20), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_full_disk_in_the_second_language(run, learn, corpus, sequence_options, tmp_path):
    """The first language is kept, and the same command goes on once there is room."""
    folder = learn(tmp_path / "run", "cll_clip", "en")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "run.json"}
    with room_for(5):
        ended = run("mlvl-cll", corpus, folder, "--method", "cll_clip", "--order", "en,de", *sequence_options)
    assert "checkpoint_best.pt: cannot be saved: File too large" in ended.error
    assert all(path.read_bytes() == content for path, content in before.items())
    assert not list(folder.glob("01-de/*.pt*"))
    learn(folder, "cll_clip", "en,de")
    assert (folder / "01-de" / "done.json").exists()


@pytest.fixture
def replaying(run, corpus, sequence_options):
    """Starts or continues a run with replay over two languages: how it ended."""

    def command(folder):
        order = ["--method", "er_with_teir", "--order", "en,de", *sequence_options, "--memory-size", 50]
        return run("mlvl-cll", corpus, folder, *order)

    return command


def without_room(write, wanted):
    """A `write_json` for which there is no room where `wanted` occurs in the path or the value."""

    def full(path, value):
        with room_for(0) if wanted in f"{path} {value}" else contextlib.nullcontext():
            write(path, value)

    return full


def test_full_disk_while_replaying(replaying, tmp_path, monkeypatch):
    """Wherever it happens, what was finished stays, memory included, and the same command goes on to the same end."""
    folder, whole = tmp_path / "run", tmp_path / "whole"
    with room_for(5):
        assert "00-en/checkpoint_best.pt: cannot be saved: File too large" in replaying(folder).error
    for module, wanted in ((costs, "'train'"), (evaluation, "scores/01-de/de.test.json"), (costs, "'evaluate'")):
        with monkeypatch.context() as patch:
            patch.setattr(module, "write_json", without_room(module.write_json, wanted))
            before = {path: path.read_bytes() for path in folder.glob("*/checkpoint_*.pt")}
            error = replaying(folder).error
        assert "cannot be saved: File too large" in error and "run the same command again" in error
        assert all(path.read_bytes() == content for path, content in before.items() if path.exists())
        assert not list(folder.rglob("*.tmp"))
    assert replaying(folder).status == replaying(whole).status == 0
    assert_same_run(folder, whole)


def test_full_disk_while_features_are_extracted(run, succeed, own_corpus, teacher):
    shutil.rmtree(own_corpus / "features")
    (own_corpus / "features").mkdir()
    with room_for(0.01):
        assert "File too large" in run("mlvl-prepare", own_corpus, "--teacher", teacher).error
    succeed("mlvl-prepare", own_corpus, "--teacher", teacher)
    assert Corpus(own_corpus).features("train", "text").shape[1] == 32


def test_full_disk_while_scores_are_written(run, succeed, world, teacher, tmp_path):
    options = ["--captions", world / "test.en.json", "--lang", "en", "--image-root", world / "images"]
    command = ["mlvl-evaluate", "--checkpoint", teacher, *options, "--json", tmp_path / "scores.json"]
    succeed(*command)
    before = (tmp_path / "scores.json").read_bytes()
    with room_for(0.0001):
        assert "File too large" in run(*command).error
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"scores.json": before}


def test_optimizer_that_would_drop_the_row_scales(train):
    assert "needs --optimizer row_adamw" in train("en", None, "--regularize", "grad_decay", "--optimizer", "adam")


def test_a_score_that_validation_does_not_give(train):
    error = train("en", None, "--best-checkpoint-metric", "rmean")
    assert error.startswith("--best-checkpoint-metric rmean: validation has loss, ") and ", r_mean" in error


def test_teacher_features_of_another_dimension_in_validation_only(train, other_features):
    """Found before the first update, not after the first epoch."""
    path = other_features("valid", "image", 16)
    assert f"{path}: these features have 16 dimensions, the model's 32" in train()


# Options that are not given


@pytest.mark.parametrize("task, arch, names", [
    ("cll_retrieval", "clip_tiny_vit", "--lang is not given; the language to learn now"),
    ("trikd", "trikd_tiny", "--sentencepiece, --mte are not given; --sentencepiece: "),
])  # fmt: skip
def test_options_without_a_default(run, user_dir, corpus, tmp_path, task, arch, names):
    criterion = "cll_clip" if task == "cll_retrieval" else "trikd"
    chosen = ["--user-dir", user_dir, "--task", task, "--arch", arch, "--criterion", criterion, "--cpu"]
    ended = run("fairseq-train", corpus, *chosen, "--batch-size", 2, "--save-dir", tmp_path / "run")
    assert ended.error.startswith(names)
    assert not (tmp_path / "run").exists()


def test_an_option_without_a_default_that_another_command_reads():
    from dataclasses import dataclass, field

    from omegaconf import MISSING, OmegaConf

    from mlvl_fairseq.process.exit_status import user_message

    @dataclass
    class Options:
        to_read: str = field(default=MISSING, metadata={"help": "what to read"})

    with pytest.raises(Exception) as caught:
        OmegaConf.structured(Options).to_read
    assert user_message(caught.value) == "--to-read is not given; what to read"
