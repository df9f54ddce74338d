"""AA, F and Fen against every cell of the reference's tables, and what missing scores do to them."""

import math

import numpy as np
import pytest
from golden import assert_golden, load_golden

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.evaluation.metrics.continual import ScoreMatrix, continual_metrics
from mlvl_fairseq.evaluation.metrics.retrieval import METRICS

NAN = math.nan
SMALL = np.array([[50.0, NAN, NAN, NAN], [40.0, 60.0, NAN, NAN], [45.0, 65.0, 30.0, NAN], [42.0, 55.0, 20.0, 70.0]])


def golden_matrix(m, size=36):
    """``golden_cl_metrics.json: formula``."""

    def score(i, j):
        return round(45 + 20 * math.sin(0.9 * i + 1.7 * j + 0.6 * m) + 15 * math.cos(0.31 * i * j + m), 3)

    return np.array([[score(i, j) if j <= i else NAN for j in range(size)] for i in range(size)])


@pytest.mark.parametrize("metric", METRICS)
def test_golden(metric):
    golden, metrics = load_golden("cl_metrics")["xm3600"], continual_metrics(golden_matrix(METRICS.index(metric)))
    assert_golden(metrics.AA, golden["AA"][metric])
    assert_golden(metrics.F[1:], golden["F"][metric])
    assert_golden(metrics.Fen[1:], golden["Fen"][metric])
    assert_golden([metrics.AA[-1], metrics.F[-1], metrics.Fen[-1]], golden["overall"][metric])


@pytest.mark.parametrize("metric", METRICS)
def test_golden_with_missing_score_as_zero(metric):
    """In the reference's COCO tables the first English score is missing and counts as 0."""
    golden, matrix = load_golden("cl_metrics")["coco"], golden_matrix(METRICS.index(metric))
    matrix[0, 0] = 0
    metrics = continual_metrics(matrix)
    assert_golden([metrics.AA[-1], metrics.F[-1], metrics.Fen[-1]], golden["overall"][metric])
    assert_golden(metrics.AA, golden["AA"][metric])
    assert_golden(metrics.F[1:], golden["F"][metric])
    assert_golden(metrics.Fen[1:], golden["Fen"][metric])


def test_definitions_of_forgetting():
    """By hand: the third model had improved the second language to 65."""
    reference, avalanche = continual_metrics(SMALL, "reference"), continual_metrics(SMALL, "avalanche")
    np.testing.assert_allclose(reference.AA, [50, 50, 140 / 3, 187 / 4])
    np.testing.assert_allclose(reference.F, [NAN, 10, (5 - 5) / 2, (8 + 10 + 10) / 3])
    np.testing.assert_allclose(reference.Fen, [NAN, 10, 5, 8])
    np.testing.assert_allclose(avalanche.AA, reference.AA)
    np.testing.assert_allclose(avalanche.F, [NAN, 10, (5 - 5) / 2, (8 + 5 + 10) / 3])
    np.testing.assert_allclose(avalanche.Fen, [NAN, 10, 5, 8])
    with pytest.raises(UserError, match="unknown definition of forgetting 'bwt'; there are: reference, avalanche"):
        continual_metrics(SMALL, "bwt")


def test_what_depends_on_a_missing_score_is_missing():
    matrix = SMALL.copy()
    matrix[1, 1] = NAN
    reference, avalanche = continual_metrics(matrix, "reference"), continual_metrics(matrix, "avalanche")
    np.testing.assert_array_equal(np.isnan(reference.AA), [False, True, False, False])
    np.testing.assert_array_equal(np.isnan(reference.F), [True, False, True, True])
    np.testing.assert_array_equal(np.isnan(reference.Fen), [True, False, False, False])
    np.testing.assert_array_equal(np.isnan(avalanche.F), [True, False, True, True])
    matrix = SMALL.copy()
    matrix[2, 1] = NAN  # not right after learning: only the reference definition looks at it later
    assert np.isnan(continual_metrics(matrix, "reference").F[3])
    assert continual_metrics(matrix, "avalanche").F[3] == pytest.approx(23 / 3)


def test_what_lies_above_the_diagonal_does_not_count():
    full = np.where(np.isnan(SMALL), 99.0, SMALL)
    for name in ("AA", "F", "Fen"):
        np.testing.assert_array_equal(getattr(continual_metrics(full), name), getattr(continual_metrics(SMALL), name))


def test_score_matrix():
    matrix = ScoreMatrix(["en", "de"], ["txt_r1", "r_mean"])
    matrix.set(0, 0, {"txt_r1": 1.0, "r_mean": 2.0, "other": 3.0})
    matrix.set(1, 1, {"txt_r1": 0.0, "r_mean": 5.0})
    np.testing.assert_array_equal(matrix["txt_r1"], [[1, NAN], [NAN, 0]])
    np.testing.assert_array_equal(matrix["r_mean"], [[2, NAN], [NAN, 5]])
    for step, j in ((0, 1), (2, 0), (1, -1)):
        with pytest.raises(UserError, match="no model after language"):
            matrix.set(step, j, {"txt_r1": 1.0, "r_mean": 1.0})
    for languages in ([], ["en", "en"]):
        with pytest.raises(UserError, match="different languages"):
            ScoreMatrix(languages, METRICS)
