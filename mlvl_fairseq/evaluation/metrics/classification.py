"""Accuracy of classification, from the rank of each image's right class.

An image's class is found among the k best ones if fewer than k classes score higher; of equal scores the class that
comes first wins (a model that scores all classes alike reaches chance, not 100 %).
"""

from typing import Dict, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.evaluation.metrics.nearest import nearest
from mlvl_fairseq.evaluation.metrics.ranking import retrieval_ranks

TOP = (1, 5, 10)
MEAN_PER_CLASS = "mean_per_class"
METRICS = (*(f"top{k}" for k in TOP), MEAN_PER_CLASS)


class Classified(NamedTuple):
    """What became of n images.

    Attributes:
        ranks: int64 [n], of the right class among all, 0 = best.
        predicted: int64 [n], the best class.
    """

    ranks: np.ndarray
    predicted: np.ndarray


def classify(image_features, class_features, labels, top_k: Optional[int] = None) -> Classified:
    """Rank the classes of every image by cosine.

    Args:
        image_features: [n, d]. class_features: [classes, d].
        labels: int [n], the right class of each image.
        top_k: as LilT's evaluation does it, an image's other classes than its so many best ones all score -100; which
            of them is right cannot be told then. None: all count.

    Raises:
        UserError: shapes that do not fit, NaN or infinite features, or fewer classes than `top_k`.
    """
    if top_k is not None and not 1 <= top_k <= len(class_features):
        number = len(class_features)
        raise UserError(f"--top-k {top_k}: there are {number} classes; give 1 to {number}, or leave it out")
    labels = np.asarray(labels)
    # What ranks images for texts ranks classes for images: each image has one right class.
    _, ranks = retrieval_ranks(class_features, image_features, labels, normalise=True)
    best = nearest(image_features, class_features, top_k or 1).indices
    if top_k is not None:
        ranks = masked_ranks(ranks, best, labels)
    return Classified(ranks, best[:, 0])


def masked_ranks(ranks, best, labels) -> np.ndarray:
    """Ranks where an image's classes but its `best` ones [n, k] tie: a class that is none of these is behind them, and
    behind all others that are none, and have a smaller index."""
    labels, top_k = labels[:, None], best.shape[1]
    return np.where(ranks < top_k, ranks, top_k + labels[:, 0] - (best < labels).sum(axis=1))


def ranks_of_scores(scores, labels) -> np.ndarray:
    """int64 [n]: the rank of each row's label among given scores [n, classes]."""
    scores, labels = np.asarray(scores), np.asarray(labels)
    own = scores[np.arange(len(scores)), labels][:, None]
    before = np.arange(scores.shape[1]) < labels[:, None]
    return ((scores > own) | ((scores == own) & before)).sum(axis=1)


def metric_names(classes: int) -> Tuple[str, ...]:
    """The metrics that say something of so many classes: among as many as there are, every image is right."""
    return tuple(name for name, k in zip(METRICS, (*TOP, 0)) if k < classes)


def accuracies(ranks, labels, classes: int) -> Dict[str, float]:
    """top-k accuracy and the mean over classes of their accuracies, in %; see :func:`metric_names`.

    Args:
        ranks: [n] of the right classes. labels: [n]. classes: how many there are; those without images do not count in
            the mean.
    """
    ranks = np.asarray(ranks)
    values = {f"top{k}": 100.0 * float(np.mean(ranks < k)) for k in TOP}
    values[MEAN_PER_CLASS] = float(np.nanmean(class_accuracies(ranks, labels, classes)))
    return {name: values[name] for name in metric_names(classes)}


def class_accuracies(ranks, labels, classes: int, k: int = 1) -> np.ndarray:
    """[classes] in %: how many images of a class have it among their k best ones; NaN for a class without images."""
    labels = np.asarray(labels)
    images = np.bincount(labels, minlength=classes)
    hits = np.bincount(labels, weights=np.asarray(ranks) < k, minlength=classes)
    return np.where(images > 0, 100.0 * hits / np.maximum(images, 1), np.nan)


def confusion_matrix(labels, predicted, classes: int) -> np.ndarray:
    """int64 [classes, classes]: images of the row's class that were taken for the column's."""
    pairs = np.asarray(labels, np.int64) * classes + np.asarray(predicted, np.int64)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def most_taken_for(labels, predicted, classes: int) -> Sequence[Tuple[int, int]]:
    """For each class the other one that most of its images were taken for, and how many; (-1, 0): none was. The
    confusion matrix is not held."""
    labels, predicted = np.asarray(labels, np.int64), np.asarray(predicted, np.int64)
    wrong = labels != predicted
    pairs, counts = np.unique(labels[wrong] * classes + predicted[wrong], return_counts=True)
    found = [(-1, 0)] * classes
    for pair, count in zip(pairs.tolist(), counts.tolist()):
        label, other = divmod(pair, classes)
        if count > found[label][1]:
            found[label] = (other, count)
    return found
