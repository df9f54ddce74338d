"""M2M's distance in float64, and which captions are in it."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fairseq.dataclass import FairseqDataclass

from mlvl_fairseq.criterions.m2m import M2mCriterion
from mlvl_fairseq.errors import UserError

ROWS, WIDTH = 5, 4
KNOWN = np.array([True, False, True, True, True])


class Model:
    fixed_teacher_space = True

    def __call__(self, text, images=None, english=None):
        features = {"text": text, "english": english}
        return features if images is None else {**features, "image": images}


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return rng.normal(size=(ROWS, WIDTH)), rng.normal(size=(ROWS, WIDTH))


def batch(arrays, **more):
    text, english = (torch.from_numpy(array).requires_grad_() for array in arrays)
    return {
        "id": torch.arange(ROWS), "nsentences": ROWS, "ntokens": 9, "net_input": {"text": text},
        "text_features": english, "has_english": torch.from_numpy(KNOWN),
        "image_features": torch.zeros(ROWS, 3), **more,
    }  # fmt: skip


@pytest.fixture
def criterion():
    return M2mCriterion(FairseqDataclass(), SimpleNamespace(langs=["en"], corpus=SimpleNamespace(source_lang="en")))


@pytest.mark.parametrize("counts", [None, [True, True, False, True, True]])
def test_the_distance_of_unit_vectors(criterion, arrays, counts):
    sample = batch(arrays, **({} if counts is None else {"counts": torch.tensor(counts)}))
    loss, size, logged = criterion(Model(), sample)
    text, english = (array / np.linalg.norm(array, axis=1, keepdims=True) for array in arrays)
    rows = KNOWN if counts is None else KNOWN & np.array(counts)
    expected = (2 - 2 * (text * english).sum(1))[rows].sum()
    assert loss.item() == pytest.approx(expected, rel=1e-5) and size == ROWS
    assert float(logged["distance"]) == pytest.approx(expected, rel=1e-5)
    loss.backward()
    moved = sample["net_input"]["text"].grad.abs().sum(1).numpy() > 0
    np.testing.assert_array_equal(moved, rows)


def test_vectors_of_captions_without_a_partner_do_not_matter(criterion, arrays):
    text, english = arrays
    before = criterion(Model(), batch(arrays))[0].item()
    english = np.where(KNOWN[:, None], english, np.nan)
    sample = batch((text, english))
    loss = criterion(Model(), sample)[0]
    assert loss.item() == before
    loss.backward()
    assert sample["net_input"]["text"].grad.isfinite().all()


def test_images_are_there_for_validation_only(criterion, arrays):
    sample = batch(arrays)
    assert criterion.features(Model(), sample).keys() == {"text", "english"}
    assert criterion.eval().features(Model(), sample)["image"] is sample["image_features"]


def test_without_the_teacher_s_texts(criterion, arrays):
    with pytest.raises(UserError, match="run mlvl-prepare CORPUS --teacher TEACHER"):
        criterion(Model(), batch(arrays, text_features=None))
