"""Translate-test and fusion against the reference's numbers and the definition."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from golden import det, load_golden

from mlvl_fairseq.arrays import unit_rows
from mlvl_fairseq.data.captions import read_captions
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.evaluation.evaluators.fusion import (
    ETAS,
    feature_fusion,
    fusion_scores,
    paired_translations,
    require_one_space,
    translate_test,
)
from mlvl_fairseq.evaluation.metrics.retrieval import METRICS, retrieval_scores

GOLDEN = load_golden("fusion")
OWNERS = np.repeat(np.arange(6), GOLDEN["captions_per_image"])


def normalize(x):
    return torch.nn.functional.normalize(x, dim=-1)


@pytest.fixture
def features():
    """The reference's inputs: images [6, 7], English and foreign captions [9, 7]."""
    images = normalize(det((6, 7), 1, 0))
    english = [normalize(images[owner] + det((7,), 0.9, 0.8 * i)) for i, owner in enumerate(OWNERS)]
    foreign = [normalize(images[owner] + det((7,), 0.9, 2.1 * i + 1)) for i, owner in enumerate(OWNERS)]
    return images.numpy(), torch.stack(english).numpy(), torch.stack(foreign).numpy()


def test_scores_are_the_references(features):
    rows = fusion_scores(*features, OWNERS, etas=(0, 0.25, 0.5, 0.75, 1))
    found = {}
    for row in rows:
        for direction in ("txt", "img"):
            recalls = [row[f"{direction}_r{k}"] for k in (1, 5, 10)]
            found[f"{row['fusion']}_{row['eta']:.2f}_{direction}_r1"] = recalls[0]
            found[f"{row['fusion']}_{row['eta']:.2f}_{direction}_r_mean"] = np.mean(recalls)
        found[f"{row['fusion']}_{row['eta']:.2f}_r_mean"] = row["r_mean"]
    assert found == pytest.approx(GOLDEN["scores"], rel=2e-5)


def test_fused_scores_rank_as_their_definition(features):
    """The sum of two similarity matrices in float64, ranked by counting; features of any length."""
    images, english, foreign = features
    rows = fusion_scores(3 * images, 0.1 * english, 7 * foreign, OWNERS, ["score"])
    for row, eta in zip(rows, ETAS):
        v, e, f = (x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1)[:, None] for x in features)
        scores = eta * (e @ v.T) + (1 - eta) * (f @ v.T)
        own = scores[np.arange(len(OWNERS)), OWNERS]
        image_ranks = [(scores[:, i] > own[OWNERS == i].max()).sum() for i in range(len(v))]
        text_ranks = (scores > own[:, None]).sum(1)
        assert row["txt_r1"] == pytest.approx(100 * np.mean(np.array(image_ranks) < 1))
        assert row["img_r1"] == pytest.approx(100 * np.mean(text_ranks < 1))


def test_ends_of_the_grid_are_single_systems(features):
    images, english, foreign = features
    rows = {(row["fusion"], row["eta"]): [row[m] for m in METRICS] for row in fusion_scores(*features, OWNERS)}
    for fusion in ("score", "feature"):
        for eta, texts in ((0, foreign), (1, english)):
            assert rows[fusion, eta] == list(retrieval_scores(images, texts, OWNERS).values())


def test_fused_features_have_length_one(features):
    _, english, foreign = features
    assert np.linalg.norm(feature_fusion(english, foreign, 0.3), axis=1) == pytest.approx(np.ones(9))
    assert not unit_rows(np.zeros((1, 3))).any()


def test_folds_are_passed_on(features):
    rows = fusion_scores(*features, OWNERS, ["feature"], [0], n_fold=3)
    assert rows[0]["r_mean"] == retrieval_scores(features[0], features[2], OWNERS, n_fold=3)["r_mean"]
    assert rows[0]["r_mean"] != fusion_scores(*features, OWNERS, ["feature"], [0])[0]["r_mean"]


@pytest.mark.parametrize("etas, named", [([0, 1.5], "1.5"), ([-0.1], "-0.1"), ([], "nothing")])
def test_eta_outside_the_unit_interval(features, etas, named):
    with pytest.raises(UserError, match=named):
        fusion_scores(*features, OWNERS, etas=etas)


def test_features_of_different_dimensions(features):
    images, english, foreign = features
    with pytest.raises(UserError, match="one feature space"):
        fusion_scores(images, english[:, :5], foreign, OWNERS)


def write(path, rows):
    path.write_text(json.dumps([{"image": image, "caption": caption} for image, caption in rows]))
    return read_captions(path)


def test_translations_are_paired_within_an_image(tmp_path):
    foreign = write(tmp_path / "de.json", [("a", "eins"), ("b", "zwei"), ("a", "drei"), ("b", "vier")])
    english = write(tmp_path / "en.json", [("b", "two"), ("a", "one"), ("b", "four"), ("a", "three")])
    assert paired_translations(foreign, english) == ["one", "two", "three", "four"]


@pytest.mark.parametrize("rows", [[("a", "one")], [("a", "one"), ("b", "two"), ("b", "three")], [("b", "two")]])
def test_missing_or_surplus_translations(tmp_path, rows):
    foreign = write(tmp_path / "de.json", [("a", "eins"), ("b", "zwei")])
    with pytest.raises(DataError, match="give their translations"):
        paired_translations(foreign, write(tmp_path / "en.json", rows))


@pytest.fixture
def new_encoder():
    """What translate-test looks at of a model before it encodes anything."""

    def build(**image_side):
        return SimpleNamespace(embed_dim=8, network=SimpleNamespace(image_side=image_side), source="model.pt")

    return build


def test_no_translations_at_all(tmp_path, new_encoder):
    foreign = write(tmp_path / "de.json", [("a", "eins")])
    with pytest.raises(UserError, match="--english-captions"):
        translate_test(new_encoder(), new_encoder(), foreign, None, None, "de")


def test_models_of_different_spaces(new_encoder):
    require_one_space(new_encoder(), new_encoder(vision=torch.nn.Linear(3, 8)))
    first, second = new_encoder(vision=torch.nn.Linear(3, 8)), new_encoder(vision=torch.nn.Linear(3, 8))
    with pytest.raises(UserError, match="different image towers"):
        require_one_space(first, second)
    second.network.image_side["vision"].load_state_dict(first.network.image_side["vision"].state_dict())
    require_one_space(first, second)
    second.embed_dim = 9
    with pytest.raises(UserError, match="8 and 9 dimensions"):
        require_one_space(first, second)
