"""What counts as a positive: every kind against its formula, evaluated pair by pair in float64 without torch.

The formulas of `diagonal` and `sum` are those of mCLIP's pre-training and fine-tuning (Chen et al. 2023).
"""

import math

import numpy as np
import pytest
import torch

from mlvl_fairseq.losses import POSITIVES, contrastive_loss

IDS = [4, 9, 4, 1, 4, 2, 9]
ROWS, DIM, TEMPERATURE = len(IDS), 5, 0.3
INVALID = [1, 4]


def formulas(ids, row):
    """By kind: weights of the positive keys of a row, and the keys of its denominator."""
    same = [key for key in range(len(ids)) if ids[key] == ids[row]]
    everyone = list(range(len(ids)))
    return {
        "mean": (dict.fromkeys(same, 1 / len(same)), everyone),
        "sum": (dict.fromkeys(same, 1.0), everyone),
        "diagonal": ({row: 1.0}, everyone),
        "masked": ({row: 1.0}, [key for key in everyone if key == row or key not in same]),
    }


def expected_loss(kind, text, image, temperature, ids):
    """Half the sum of both directions' rows, in float64."""
    text, image = (x / np.sqrt((x * x).sum(axis=1, keepdims=True)) for x in (text, image))
    total = 0.0
    for queries, keys in ((text, image), (image, text)):
        for row in range(len(ids)):
            scores = [float(queries[row] @ key) / temperature for key in keys]
            weights, denominator = formulas(ids, row)[kind]
            log_sum = math.log(sum(math.exp(scores[key]) for key in denominator))
            total -= sum(weight * (scores[key] - log_sum) for key, weight in weights.items())
    return 0.5 * total


def slopes(function, array, step=1e-6):
    """Derivatives by every element of an array, by central differences."""
    result = np.empty_like(array)
    for index in np.ndindex(array.shape):
        moved = [array.copy(), array.copy()]
        moved[0][index] += step
        moved[1][index] -= step
        result[index] = (function(moved[0]) - function(moved[1])) / (2 * step)
    return result


@pytest.fixture
def features():
    generator = np.random.default_rng(0)
    return generator.standard_normal((ROWS, DIM)), 3 * generator.standard_normal((ROWS, DIM))


def computed(kind, text, image, **options):
    """Loss and gradients of text, image and temperature, as float64 arrays."""
    leaves = [torch.tensor(x, dtype=torch.float32, requires_grad=True) for x in (text, image, TEMPERATURE)]
    loss = contrastive_loss(*leaves, torch.tensor(IDS), positives=kind, **options)
    loss.backward()
    return loss.item(), *(leaf.grad.double().numpy() for leaf in leaves)


def test_all_kinds_are_tested():
    assert POSITIVES.keys() == formulas(IDS, 0).keys()


@pytest.mark.parametrize("kind", POSITIVES)
def test_loss_and_gradients_are_those_of_the_formula(kind, features):
    text, image = features
    loss, text_slopes, image_slopes, temperature_slope = computed(kind, text, image)
    assert loss == pytest.approx(expected_loss(kind, text, image, TEMPERATURE, IDS), rel=1e-6)
    by_text = slopes(lambda x: expected_loss(kind, x, image, TEMPERATURE, IDS), text)
    by_image = slopes(lambda x: expected_loss(kind, text, x, TEMPERATURE, IDS), image)
    by_temperature = slopes(lambda x: expected_loss(kind, text, image, float(x), IDS), np.array(TEMPERATURE))
    np.testing.assert_allclose(text_slopes, by_text, rtol=1e-4, atol=2e-6)
    np.testing.assert_allclose(image_slopes, by_image, rtol=1e-4, atol=2e-6)
    np.testing.assert_allclose(temperature_slope, by_temperature, rtol=1e-5)


@pytest.mark.parametrize("kind", POSITIVES)
def test_invalid_rows_might_as_well_not_be_there(kind, features):
    text, image = features
    kept = [row for row in range(ROWS) if row not in INVALID]
    expected = expected_loss(kind, text[kept], image[kept], TEMPERATURE, [IDS[row] for row in kept])
    text, image = text.copy(), image.copy()
    text[INVALID], image[INVALID] = np.nan, 0  # what a dummy batch holds must not matter
    valid = torch.tensor([row in kept for row in range(ROWS)])
    loss, text_slopes, image_slopes, temperature_slope = computed(kind, text, image, valid=valid)
    assert loss == pytest.approx(expected, rel=1e-6)
    for slope in (text_slopes, image_slopes):
        assert not slope[INVALID].any() and np.isfinite(slope[kept]).all() and slope[kept].any(axis=1).all()
    assert np.isfinite(temperature_slope)


@pytest.mark.parametrize("kind", POSITIVES)
def test_without_any_valid_row_loss_and_gradients_are_zero(kind, features):
    results = computed(kind, *features, valid=torch.zeros(ROWS, dtype=torch.bool))
    assert not any(np.any(result) for result in results)


@pytest.mark.parametrize("kind", POSITIVES)
def test_one_image_a_row_makes_all_kinds_the_same(kind, features):
    leaves = [torch.tensor(x, dtype=torch.float32) for x in (*features, TEMPERATURE)]
    loss = contrastive_loss(*leaves, torch.arange(ROWS), positives=kind)
    torch.testing.assert_close(loss, contrastive_loss(*leaves, torch.arange(ROWS)))


def test_a_number_is_a_temperature_too(features):
    text, image = (torch.tensor(x, dtype=torch.float32) for x in features)
    both = [contrastive_loss(text, image, t, torch.arange(ROWS)) for t in (0.5, torch.tensor(0.5))]
    assert torch.equal(*both)


@pytest.mark.parametrize("kind", POSITIVES)
@pytest.mark.parametrize("similarities", [1, 2 * ROWS, 3 * ROWS])
def test_blocks_of_a_large_matrix_change_nothing(kind, similarities, features, monkeypatch):
    whole = computed(kind, *features)
    monkeypatch.setattr("mlvl_fairseq.losses.features.MAX_SIMILARITIES", similarities)
    for blocks, expected in zip(computed(kind, *features), whole, strict=True):
        np.testing.assert_allclose(blocks, expected, rtol=1e-5, atol=1e-6)
