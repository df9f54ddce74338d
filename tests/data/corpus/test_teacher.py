"""All features of a teacher are there: told without its weights, and without torch."""

import subprocess
import sys

import numpy as np
import pytest

from mlvl_fairseq.data.corpus import TEACHER_FEATURES
from mlvl_fairseq.data.corpus.prepare import prepare_vocabularies
from mlvl_fairseq.data.corpus.teacher import has_all_features, recorded_teacher, remember_teacher
from mlvl_fairseq.data.features import FeatureWriter, array_path, feature_manifest_path


def features(rows):
    return np.arange(2 * rows, dtype=np.float32).reshape(rows, 2)


@pytest.fixture
def teacher(tmp_path):
    path = tmp_path / "teacher.pt"
    path.write_bytes(b"weights")
    return path


@pytest.fixture
def complete(corpus, teacher):
    """The corpus with all features, and the note of who made them."""
    for split in corpus.manifest["splits"]:
        for kind in TEACHER_FEATURES:
            names = corpus.english(split) if kind == "text" else corpus.images(split)
            with FeatureWriter(corpus.feature_stem(split, kind), names, 2, "teacher", "f" * 64) as writer:
                writer.write(features(len(names)))
    remember_teacher(corpus, teacher, "f" * 64)
    return corpus


def test_nothing_is_left_to_do(complete, teacher, tmp_path):
    moved = tmp_path / "elsewhere.pt"
    moved.write_bytes(teacher.read_bytes())
    assert has_all_features(complete, teacher) and has_all_features(complete, str(moved))


def test_a_folder_is_its_files(complete, tmp_path):
    folder = tmp_path / "clip"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    assert not has_all_features(complete, folder)
    remember_teacher(complete, folder, "f" * 64)
    assert has_all_features(complete, folder)
    (folder / "config.json").write_text("{ }")
    assert not has_all_features(complete, folder)


def test_where_the_teacher_was_is_noted(corpus, tmp_path, monkeypatch):
    """From any folder; a name that JSON cannot hold is left out."""
    monkeypatch.chdir(tmp_path)
    for name, noted in (("my teacher.pt", f"{tmp_path}/my teacher.pt"), ("\udcff.pt", None)):
        (tmp_path / name).write_bytes(b"weights")
        remember_teacher(corpus, name, "f" * 64)
        assert recorded_teacher(corpus).path == noted


DAMAGES = {
    "another teacher": lambda corpus, teacher: teacher.write_bytes(b"other weights"),
    "no teacher": lambda corpus, teacher: teacher.unlink(),
    "no record": lambda corpus, teacher: (corpus.folder / "features" / "teacher.json").unlink(),
    "no features": lambda corpus, teacher: array_path(corpus.feature_stem("valid", "text")).unlink(),
    "no manifest": lambda corpus, teacher: feature_manifest_path(corpus.feature_stem("train", "image")).unlink(),
    "more images": lambda corpus, teacher: corpus.images_path("train").write_text(
        corpus.images_path("train").read_text() + "new.jpg\n"
    ),
    "other weights recorded": lambda corpus, teacher: remember_teacher(corpus, teacher, "e" * 64),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_something_is_left_to_do(complete, teacher, damage):
    damage(complete, teacher)
    assert not has_all_features(complete, teacher)


def test_unfinished_features_are_left_to_do(corpus, complete, teacher):
    stem = corpus.feature_stem("train", "text")
    for path in (array_path(stem), feature_manifest_path(stem)):
        path.unlink()
    with FeatureWriter(stem, corpus.english("train"), 2, "teacher", "f" * 64) as writer:
        writer.write(features(1))
    assert not has_all_features(complete, teacher)


def test_images_that_were_skipped_are_asked_about_again(corpus, complete, teacher):
    stem = corpus.feature_stem("train", "image")
    for path in (array_path(stem), feature_manifest_path(stem)):
        path.unlink()
    with FeatureWriter(stem, corpus.images("train"), 2, "teacher", "f" * 64) as writer:
        writer.write(features(len(corpus.images("train"))), bad=[1])
    assert not has_all_features(complete, teacher)


def test_the_command_then_imports_no_torch(complete, teacher):
    """Nor fairseq: each takes seconds."""
    prepare_vocabularies(complete)
    command = f"prepare.main([{str(complete.folder)!r}, '--teacher', {str(teacher)!r}])"
    check = "heavy = {'torch', 'fairseq'} & sys.modules.keys(); assert not heavy, heavy"
    program = f"import sys; from mlvl_fairseq.cli import prepare; {command}; {check}"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr[-2000:]
