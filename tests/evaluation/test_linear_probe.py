"""The linear probe: draws, the choice of C, and a command that never trains on what it tests."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression

from mlvl_fairseq.data.images.transforms import ImageTransform
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.evaluation.metrics.linear_probe import STRENGTHS, draw_shots, fit_probe
from mlvl_fairseq.evaluation.metrics.query_ranks import QueryRanks
from mlvl_fairseq.evaluation.signature import parse_signature
from mlvl_fairseq.inference.encoder import Encoder
from mlvl_fairseq.networks.base import Encoded


def clouds(n, classes, spread, seed=0):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(9).standard_normal((classes, 6))
    labels = np.arange(n) % classes
    return (centres[labels] + spread * rng.standard_normal((n, 6))).astype(np.float32), labels


def test_draws():
    labels = np.array([0, 1, 1, 0, 1, 1, 1, 0])
    few, more = draw_shots(labels, 2, 2, seed=3), draw_shots(labels, 2, 4, seed=3)
    assert np.bincount(labels[few]).tolist() == [2, 2] and np.bincount(labels[more]).tolist() == [3, 4]
    assert set(few) <= set(more) and len(set(more.tolist())) == 7
    assert sorted(draw_shots(labels, 2, 0, seed=1).tolist()) == list(range(8))
    assert any(set(draw_shots(labels, 2, 2, seed)) != set(few) for seed in range(4, 9))
    with pytest.raises(UserError, match="class 2 has no training image"):
        draw_shots(labels, 3, 1, seed=0)


@pytest.mark.parametrize("classes, spread", [(2, 4), (5, 1.2)])
def test_c_is_chosen_on_a_quarter_of_the_images(classes, spread):
    """By scikit-learn in float64: the first quarter of each class chooses, then all are fitted."""
    features, labels = clouds(8 * classes, classes, spread)
    unit = features.astype(np.float64) / np.linalg.norm(features, axis=1, keepdims=True)
    held = np.zeros(len(labels), bool)
    for label in range(classes):
        held[np.flatnonzero(labels == label)[:2]] = True
    found = []
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=1000).fit(unit[~held], labels[~held])
        found.append(100 * model.score(unit[held], labels[held]))
    best = STRENGTHS[int(np.argmax(found))]
    probe = fit_probe(features, labels, classes)
    assert (probe.strength, probe.validation) == (best, pytest.approx(max(found))) and probe.converged
    assert len(set(found)) > 1, "else nothing was chosen"
    test, right = clouds(60, classes, spread, seed=1)
    theirs = LogisticRegression(C=best, max_iter=1000).fit(unit, labels)
    expected = theirs.predict_proba(test / np.linalg.norm(test, axis=1, keepdims=True))
    ranks = (expected > expected[np.arange(60), right][:, None]).sum(axis=1)
    assert np.mean(probe.ranks(test, right) == ranks) > 0.97
    np.testing.assert_allclose(
        probe.weights - probe.weights[0], _weights(theirs, classes) - _weights(theirs, classes)[0], rtol=0.05, atol=0.05
    )


def _weights(model, classes):
    return model.coef_ if classes > 2 else np.stack([0 * model.coef_[0], model.coef_[0]])


def test_one_shot_chooses_nothing():
    features, labels = clouds(5, 5, spread=0.1)
    probe = fit_probe(features, labels, 5)
    assert (probe.strength, probe.validation) == (1.0, None)
    test, right = clouds(50, 5, spread=0.1, seed=2)
    assert np.mean(probe.ranks(test, right) < 1) > 0.9


class Colours(torch.nn.Module):
    """A picture is its mean colour."""

    preprocess, embed_dim, max_length, feature_dim = ImageTransform("clip", 8), 3, 16, 3

    def encode_image(self, pixels):
        return Encoded(pixels.mean((2, 3)))

    def encode_features(self, features):
        return Encoded(features)


@pytest.fixture
def probe(run_here, tmp_path, monkeypatch, capsys):
    """``probe(*options)``: exit status, JSON that was printed, standard error; of three colours with six pictures to
    train on and four to test on."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 6), ("test", 4)):
        for channel, name in enumerate(("red", "green", "blue")):
            for number in range(count):
                pixels = rng.integers(0, 90, (9, 9, 3)).astype(np.uint8)
                pixels[..., channel] += 120
                path = tmp_path / part / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    model = Encoder(Colours(), None, "sha", [], "model.pt")
    monkeypatch.setattr(Encoder, "load", lambda path, **options: model)

    def run(*options, train="train"):
        command = ["linear_probe", "--checkpoint", "x.pt", "--data-set", "folder", "--root", tmp_path / "test"]
        place = ["--train-root", tmp_path / train] if train else []
        with pytest.raises(SystemExit) as exit:
            run_here("mlvl-evaluate", *command, *place, *options)
        out, err = capsys.readouterr()
        return exit.value.code or 0, json.loads(out) if out else None, err

    return run


def test_scores_signature_and_folder(probe, tmp_path):
    status, scores, _ = probe("--shots", 4, "--seeds", 2, "--output-dir", tmp_path / "out")
    assert status == 0 and scores["top1"] == scores["mean_per_class"] == 100
    signature = parse_signature(scores["signature"])
    assert {key: signature[key] for key in ("lang", "images", "set", "classes", "shots", "seeds", "transform")} == {
        "lang": "zxx", "images": "12", "set": "folder", "classes": "3", "shots": "4", "seeds": "2",
        "transform": "clip@8",
    }  # fmt: skip
    rows = list(csv.DictReader((tmp_path / "out" / "zxx.test.seeds.csv").open()))
    assert [(row["seed"], row["images"], row["top1"]) for row in rows] == [
        ("1", "12", "100.0000"),
        ("2", "12", "100.0000"),
    ]
    assert not (tmp_path / "out" / "zxx.test.ranks.npz").exists(), "a mean has no ranks"
    assert probe("--shots", 4, "--seeds", 2, "--output-dir", tmp_path / "out")[1] == scores
    assert probe("--shots", 2, "--seeds", 2, "--output-dir", tmp_path / "out")[0] == 2
    (tmp_path / "train" / "red" / "0.png").unlink()
    status, _, error = probe("--shots", 4, "--seeds", 2, "--output-dir", tmp_path / "out")
    assert status == 2 and "holds the scores of other data than" in error


def test_one_draw_has_ranks(probe, tmp_path):
    status, scores, _ = probe("--shots", 0, "--seeds", 1, "--output-dir", tmp_path / "out")
    ranks = QueryRanks.load(tmp_path / "out" / "zxx.test.ranks.npz")
    assert status == 0 and parse_signature(scores["signature"])["shots"] == "all"
    assert 100 * np.mean(ranks.image_ranks < 1) == scores["top1"]


def test_pictures_that_cannot_be_read(probe, tmp_path):
    (tmp_path / "train" / "red" / "0.png").write_bytes(b"x")
    (tmp_path / "test" / "red" / "1.png").write_bytes(b"x")
    assert probe("--shots", 0)[0] == 2
    status, scores, _ = probe("--shots", 0, "--bad-image", "skip")
    assert status == 0 and scores["left_out"]["images"] == ["test:red/1.png", "train:red/0.png"]
    assert parse_signature(scores["signature"])["images"] == "11" and scores["top1"] == 100


def test_classes_are_matched_by_name(probe, tmp_path):
    extra = tmp_path / "train" / "alpha"
    extra.mkdir()
    Image.new("RGB", (9, 9), (250, 250, 250)).save(extra / "1.png")
    assert probe("--shots", 2)[1]["top1"] == 100
    (tmp_path / "train" / "blue").rename(tmp_path / "train" / "zulu")
    status, _, error = probe("--shots", 2)
    assert status == 2 and "train lacks 1 of 3 classes, such as 'blue'" in error


def test_features_that_are_given(probe, tmp_path):
    options = []
    for part, name, count in (("train", "train", 6), ("test", "image", 4)):
        np.save(tmp_path / f"{part}.npy", np.repeat(np.eye(3, dtype=np.float32), count, axis=0))
        names = [f"{colour}/{number}.png" for colour in ("red", "green", "blue") for number in range(count)]
        (tmp_path / f"{part}.txt").write_text("\n".join(names) + "\n")
        options += [f"--{name}-features", tmp_path / f"{part}.npy", f"--{name}-list", tmp_path / f"{part}.txt"]
    status, scores, _ = probe(*options, "--shots", 3)
    assert status == 0 and scores["top1"] == 100 and "transform" not in parse_signature(scores["signature"])
    status, _, error = probe(*options[:4])
    assert status == 2 and "--image-features and --train-features are given together" in error


@pytest.mark.parametrize("train", [None, "test", "train/../test"])
def test_what_is_tested_on_is_not_trained_on(probe, train):
    status, _, error = probe(train=train)
    assert status == 2 and "test is both trained and tested on: give other images with --train-root" in error
