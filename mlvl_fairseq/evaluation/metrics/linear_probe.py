"""A linear classifier on features, from few images a class: multinomial logistic regression (scikit-learn's).

How strongly it is regularised is chosen on a part of the training images; test images choose nothing.
"""

import warnings
from dataclasses import dataclass
from typing import Optional, Tuple

import numpy as np

from mlvl_fairseq.arrays import unit_rows
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.evaluation.metrics.classification import ranks_of_scores

STRENGTHS = tuple(10.0**power for power in range(-2, 5))  # C of scikit-learn: the larger, the less regularised
UNCHOSEN = 1.0  # where a class has one image, none is left to choose with
VALIDATION_SHARE = 4  # one of so many images of a class, at least one
MAX_ITERATIONS = 1000
CHUNK = 1024  # images whose scores are in memory together


@dataclass(frozen=True)
class Probe:
    """A fitted classifier.

    Attributes:
        weights: float32 [classes, d]. bias: float32 [classes].
        strength: C that was chosen. validation: its accuracy in % where it was chosen; None: it was not.
        converged: whether every fit ended by itself.
    """

    weights: np.ndarray
    bias: np.ndarray
    strength: float
    validation: Optional[float]
    converged: bool

    def ranks(self, features, labels) -> np.ndarray:
        """int64 [n]: the rank of each image's right class, 0 = best; `features` [n, d] of any length."""
        parts = [np.empty(0, np.int64)]
        for start in range(0, len(features), CHUNK):
            rows = slice(start, start + CHUNK)
            parts.append(ranks_of_scores(unit_rows(features[rows]) @ self.weights.T + self.bias, labels[rows]))
        return np.concatenate(parts)


def draw_shots(labels, classes: int, shots: int, seed: int) -> np.ndarray:
    """int64: rows of the images that a classifier is trained on, in the order in which they are drawn.

    Args:
        labels: int [n]. classes: how many there are.
        shots: images a class; 0: all. Of a class with fewer, all are taken.
        seed: of the draw; the images of fewer shots are among those of more.

    Raises:
        UserError: a class has no image.
    """
    labels, rng, drawn = np.asarray(labels), np.random.default_rng(seed), []
    for label in range(classes):
        own = rng.permutation(np.flatnonzero(labels == label))
        if not len(own):
            raise UserError(f"class {label} has no training image: nothing is to be learned of it")
        drawn.append(own[:shots] if shots else own)
    return np.concatenate(drawn)


def fit_probe(features, labels, classes: int) -> Probe:
    """Choose C on every fourth image of each class (at least one), then fit all images with it.

    Args:
        features: [n, d] of any length. labels: int [n], every class has one at least. classes: how many there are.
    """
    features, labels = unit_rows(features), np.asarray(labels)
    held = _held_out(labels, classes)
    strength, validation, converged = UNCHOSEN, None, []
    if held.any():
        for candidate in STRENGTHS:  # of equally good ones the most regularised
            probe = _fit(features[~held], labels[~held], classes, candidate)
            converged.append(probe.converged)
            accuracy = 100 * float(np.mean(probe.ranks(features[held], labels[held]) < 1))
            if validation is None or accuracy > validation:
                strength, validation = candidate, accuracy
    final = _fit(features, labels, classes, strength)
    return Probe(final.weights, final.bias, strength, validation, all([*converged, final.converged]))


def _held_out(labels: np.ndarray, classes: int) -> np.ndarray:
    """bool [n]: the images that choose C; none where a class has one image only."""
    held = np.zeros(len(labels), bool)
    for label in range(classes):
        own = np.flatnonzero(labels == label)
        if len(own) < 2:
            return np.zeros(len(labels), bool)
        held[own[: max(1, len(own) // VALIDATION_SHARE)]] = True
    return held


def _fit(features: np.ndarray, labels: np.ndarray, classes: int, strength: float) -> Probe:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        fitted = LogisticRegression(C=strength, max_iter=MAX_ITERATIONS).fit(features, labels)
    converged = not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
    weights, bias = _of_all(fitted.coef_, fitted.intercept_, classes)
    return Probe(weights.astype(np.float32), bias.astype(np.float32), strength, None, converged)


def _of_all(weights: np.ndarray, bias: np.ndarray, classes: int) -> Tuple[np.ndarray, np.ndarray]:
    """A row for each class: of two classes scikit-learn keeps the difference."""
    if classes == 2 and len(weights) == 1:
        return np.concatenate([np.zeros_like(weights), weights]), np.concatenate([np.zeros_like(bias), bias])
    return weights, bias
