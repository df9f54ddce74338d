"""A language that a corpus lacks: added to it, and then to a run that has learned the others."""

import shutil

import numpy as np
import pytest

from mlvl_fairseq.checkpoints.safe_loading import load_checkpoint_file
from mlvl_fairseq.data.corpus import Corpus


@pytest.fixture
def prepare(succeed, run, world, tmp_path):
    """``prepare(languages, ...)``: mlvl-prepare on the world's caption files; with `fails`, gives how it ended."""

    def command(languages, *more, folder="corpus", train=world / "train.vision-en-{lang}.tsv", fails=False):
        files = ["--train", train, "--valid", world / "valid.{lang}.json", "--test", world / "test.{lang}.json"]
        ended = (run if fails else succeed)("mlvl-prepare", tmp_path / folder, "--languages", languages, *files, *more)
        return ended if fails else tmp_path / folder

    return command


def weights(folder):
    return load_checkpoint_file(folder / "checkpoint_best.pt")["model"]


def test_a_language_later_is_a_language_from_the_start(
    prepare, succeed, run, learn, corpus, world, teacher, sequence_options, tmp_path
):
    smaller = prepare("en,de", "--image-root", world / "images", "--teacher", teacher)
    features = {path: path.read_bytes() for path in (smaller / "features").iterdir()}
    options = ["--method", "cll_clip_with_teir", *sequence_options]
    succeed("mlvl-cll", smaller, tmp_path / "run", "--order", "en,de", *options)
    longer = ["mlvl-cll", smaller, tmp_path / "run", "--order", "en,de,ru", *options]
    assert "no train captions in language 'ru'" in run(*longer).error
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("checkpoint_*.pt")}
    prepare("en,de,ru")
    assert {path: path.read_bytes() for path in (smaller / "features").iterdir()} == features
    succeed(*longer)
    assert all(path.read_bytes() == content for path, content in before.items())
    at_once = learn(tmp_path / "at_once", "cll_clip_with_teir", "en,de,ru")
    ours, theirs = weights(tmp_path / "run" / "02-ru"), weights(at_once / "02-ru")
    assert ours.keys() == theirs.keys() and all(ours[name].equal(theirs[name]) for name in ours)
    for path in at_once.glob("scores/*/*.json"):
        assert path.read_bytes() == (tmp_path / "run" / path.relative_to(at_once)).read_bytes()
    other = smaller / "captions" / "valid.de.txt"
    other.write_text(other.read_text(encoding="utf-8").replace("ein", "kein"), encoding="utf-8")
    assert "the corpus holds other captions in de than it did" in run(*longer).error


def test_features_of_new_images_and_sentences_are_added(prepare, succeed, run, cll, world, teacher, tmp_path):
    """English and German captions of 50 pictures, Russian ones of 60."""
    for lang, captions in (("en", 100), ("de", 100), ("ru", 120)):
        lines = (world / f"train.vision-en-{lang}.tsv").read_text(encoding="utf-8").splitlines(keepends=True)
        (tmp_path / f"train.{lang}.tsv").write_text("".join(lines[:captions]), encoding="utf-8")
    options = {"train": tmp_path / "train.{lang}.tsv"}
    root = ["--image-root", world / "images"]
    smaller = Corpus(prepare("en,de", *root, "--order", "en,de", "--teacher", teacher, **options))
    before = {kind: np.array(smaller.features("train", kind)) for kind in ("image", "text")}
    larger = Corpus(prepare("en,de,ru", "--order", "en,de,ru", **options))
    train = ["fairseq-train", larger.folder, *cll("ru")[1:], "--max-epoch", 1, "--save-dir", tmp_path / "ru"]
    train[train.index("--lang") + 1 : train.index("--lang") + 2] = ["en"]
    assert "holds 50 of 60 rows, more have been added since" in run(*train).error
    succeed("mlvl-prepare", larger.folder, "--teacher", teacher)
    fresh = Corpus(prepare("en,de,ru", *root, "--teacher", teacher, folder="fresh", **options))
    for kind, old in before.items():
        features = larger.features("train", kind)
        assert len(features) > len(old) and np.array_equal(features[: len(old)], old)
        np.testing.assert_allclose(features, fresh.features("train", kind), atol=1e-5)
    succeed(*train)


def test_a_wrong_image_root_is_told_and_can_be_put_right(prepare, succeed, run, world, teacher, tmp_path):
    wrong = prepare("en", "--image-root", world, fails=True)
    assert f"there is no {world}/train/00000.png, the first image of the train split" in wrong.error
    assert not (tmp_path / "corpus").exists()
    moved = shutil.copytree(world / "images", tmp_path / "moved")
    folder = prepare("en", "--image-root", moved)
    shutil.rmtree(moved)
    assert "no such image; check the image root" in run("mlvl-prepare", folder, "--teacher", teacher).error
    succeed("mlvl-prepare", folder, "--teacher", teacher, "--image-root", world / "images")
    assert len(Corpus(folder).features("train", "image")) == 60
