"""ITC and TTC against sections 2.1 and 2.7 of the description, written out in float64."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mlvl_fairseq import losses
from mlvl_fairseq.criterions.trikd import TrikdCriterion, TrikdCriterionConfig, parse_loss_type
from mlvl_fairseq.errors import UserError

ROWS, WIDTH = 6, 5
IMAGES = np.array([4, 4, 7, 9, 9, 9])
TEMPERATURE = 0.2


class Model:
    """Gives what it is given, as the projectors would."""

    temperature = torch.tensor(TEMPERATURE, dtype=torch.float64)

    def __call__(self, text, images, english=None):
        features = {"text": text, "image": images}
        return features if english is None else {**features, "english": english}


@pytest.fixture
def features():
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal((ROWS, WIDTH)) for name in ("text", "image", "english")}


def batch(features, **more):
    tensors = {name: torch.from_numpy(array).requires_grad_() for name, array in features.items()}
    return {
        "id": torch.arange(ROWS), "nsentences": ROWS, "ntokens": 30, "net_input": {"text": tensors["text"]},
        "image_features": tensors["image"], "text_features": tensors["english"],
        "image_ids": torch.from_numpy(IMAGES), "lang_ids": torch.zeros(ROWS, dtype=torch.long),
        "has_english": torch.ones(ROWS, dtype=torch.bool), **more,
    }  # fmt: skip


def new_criterion(langs=("en",), **options):
    task = SimpleNamespace(langs=list(langs), corpus=SimpleNamespace(source_lang="en"))
    return TrikdCriterion(TrikdCriterionConfig(**options), task)


def norm(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def nce(a, b, scale, weights, keep):
    """0.5 * (CE of rows + CE of columns) with positives `weights` [N, N] and columns `keep` [N, N] in the softmax."""
    total = 0.0
    for logits in (scale * norm(a) @ norm(b).T, scale * norm(b) @ norm(a).T):
        logits = np.where(keep, logits, -np.inf)
        log_softmax = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        total += -np.where(weights > 0, weights * log_softmax, 0).sum() / len(a)
    return total / 2


SAME = IMAGES[:, None] == IMAGES[None, :]
POSITIVES = {
    "diagonal": (np.eye(ROWS), np.ones((ROWS, ROWS), bool)),
    "sum": (SAME.astype(float), np.ones((ROWS, ROWS), bool)),
    "mean": (SAME / SAME.sum(axis=1, keepdims=True), np.ones((ROWS, ROWS), bool)),
    "masked": (np.eye(ROWS), ~SAME | np.eye(ROWS, dtype=bool)),
}


def test_every_rule_has_its_formula():
    assert POSITIVES.keys() == losses.POSITIVES.keys()


@pytest.mark.parametrize("positives", sorted(POSITIVES))
@pytest.mark.parametrize("k", [np.log(1 / 0.07), np.log(1 / 0.01), 1 / 0.07])
def test_equals_the_published_formulas(features, positives, k):
    """2.1: L = NCE(x, v, s) + 0.1 NCE(x, c, k) with positives on the diagonal; 2.7: sums over equal image ids."""
    loss, size, log = new_criterion(positives=positives, ttc_temperature=1 / k)(Model(), batch(features))
    itc = nce(features["text"], features["image"], 1 / TEMPERATURE, *POSITIVES[positives])
    ttc = nce(features["text"], features["english"], k, *POSITIVES[positives])
    assert size == ROWS
    assert float(loss) / size == pytest.approx(itc + 0.1 * ttc, rel=1e-5)
    assert float(log["itc"]) / size == pytest.approx(itc, rel=1e-5)
    assert float(log["ttc"]) / size == pytest.approx(0.1 * ttc, rel=1e-5)


def test_gradients_are_those_of_the_formula(features):
    sample = batch(features)
    loss, _, _ = new_criterion(positives="diagonal", ttc_temperature=0.376)(Model(), sample)
    loss.backward()

    def value(name, row, column, step):
        moved = {key: array.copy() for key, array in features.items()}
        moved[name][row, column] += step
        itc = nce(moved["text"], moved["image"], 1 / TEMPERATURE, *POSITIVES["diagonal"])
        return ROWS * (itc + 0.1 * nce(moved["text"], moved["english"], 1 / 0.376, *POSITIVES["diagonal"]))

    tensors = {
        "text": sample["net_input"]["text"],
        "image": sample["image_features"],
        "english": sample["text_features"],
    }
    for name, tensor in tensors.items():
        for row, column in ((0, 0), (3, 2), (5, 4)):
            slope = (value(name, row, column, 1e-6) - value(name, row, column, -1e-6)) / 2e-6
            assert float(tensor.grad[row, column]) == pytest.approx(slope, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("loss_type, terms", [
    ("sim", (1, 0.1)), ("simnott", (1, 0)), ("noit", (0, 1)), ("vanilla", (1, 0.1)), ("vanillanott", (1, 0)),
])  # fmt: skip
def test_loss_types_of_the_published_code(features, loss_type, terms):
    criterion = new_criterion(loss_type=loss_type, positives="diagonal", ttc_temperature=0.376)
    loss, _, log = criterion(Model(), batch(features))
    itc = nce(features["text"], features["image"], 1 / TEMPERATURE, *POSITIVES["diagonal"])
    ttc = nce(features["text"], features["english"], 1 / 0.376, *POSITIVES["diagonal"])
    assert float(loss) / ROWS == pytest.approx(terms[0] * itc + terms[1] * ttc, rel=1e-5)
    assert ("itc" in log, "ttc" in log) == (terms[0] > 0, terms[1] > 0)
    assert criterion.gathered == ("vanilla" not in loss_type)


def test_no_term_no_training():
    with pytest.raises(UserError, match="leaves no loss"):
        parse_loss_type("noitnott")
    with pytest.raises(UserError, match="--loss-type smi: give sim, nott"):
        parse_loss_type("smi")
    with pytest.raises(UserError, match="--ttc-temperature 0 is not a number above 0"):
        new_criterion(ttc_temperature=0.0)


def part(features, rows):
    return {name: array[rows] for name, array in features.items()}


def ttc_of(features, rows, other="english"):
    rows, own = np.flatnonzero(rows), part(features, rows)
    weights, keep = (matrix[np.ix_(rows, rows)] for matrix in POSITIVES["masked"])
    return len(rows) * nce(own["text"], own[other], 1 / 0.07, weights, keep)


def test_captions_without_english_take_no_part_in_ttc(features):
    known = np.array([True, False, True, True, False, True])
    sample = batch(features, has_english=torch.from_numpy(known))
    _, _, log = new_criterion()(Model(), sample)
    assert float(log["ttc"]) == pytest.approx(0.1 * ttc_of(features, known), rel=1e-5)
    _, _, nothing = new_criterion()(Model(), batch(features, has_english=torch.zeros(ROWS, dtype=torch.bool)))
    assert float(nothing["ttc"]) == 0 and float(nothing["itc"]) == float(log["itc"])


@pytest.mark.parametrize("choice", ["partner", "none", "image"])
def test_clip_s_side_of_other_languages(features, choice):
    languages = torch.tensor([0, 1, 0, 1, 1, 1])
    criterion = new_criterion(("de", "en"), non_english_ttc=choice)
    english = (languages == 1).numpy()
    if choice == "image":
        mixed = {**features, "mixed": np.where(english[:, None], features["english"], features["image"])}
        expected = ttc_of(mixed, np.ones(ROWS, bool), "mixed")
    else:
        expected = ttc_of(features, english if choice == "none" else np.ones(ROWS, bool))
    _, _, log = criterion(Model(), batch(features, lang_ids=languages))
    assert float(log["ttc"]) == pytest.approx(0.1 * expected, rel=1e-5)


def test_a_batch_that_does_not_count_gives_no_loss_and_no_gradient(features):
    sample = batch(features, counts=torch.zeros(ROWS, dtype=torch.bool))
    loss, _, _ = new_criterion()(Model(), sample)
    loss.backward()
    assert float(loss) == 0 and not sample["net_input"]["text"].grad.any()


def test_missing_english_features(features):
    sample = batch(features)
    del sample["text_features"]
    with pytest.raises(UserError, match="run mlvl-prepare CORPUS --teacher"):
        new_criterion()(Model(), sample)
    _, _, log = new_criterion().eval()(Model(), sample)  # a validation set need not have them
    assert "ttc" not in log and "itc" in log
    new_criterion(loss_type="nott")(Model(), sample)
