"""Accuracies against the published code's numbers, and ranks, masks and confusions against a sort in float64."""

import numpy as np
import pytest
from golden import load_golden

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.evaluation.metrics.classification import (
    accuracies,
    class_accuracies,
    classify,
    confusion_matrix,
    metric_names,
    most_taken_for,
    ranks_of_scores,
)


@pytest.fixture(scope="module")
def many():
    """300 images of 40 classes that are told apart badly, the last class twice under two numbers."""
    rng = np.random.default_rng(0)
    classes = rng.standard_normal((40, 16)).astype(np.float32)
    classes[39] = classes[7]
    labels = rng.integers(0, 40, 300)
    images = classes[labels] * 3 + 4 * rng.standard_normal((300, 16)).astype(np.float32)
    return images.astype(np.float32), classes, labels


def sorted_classes(images, classes):
    """[n, classes]: best first, of equal ones the first; in float64, each score summed alone: equal classes tie."""
    images, classes = np.asarray(images, np.float64), np.asarray(classes, np.float64)
    scores = (images[:, None] * (classes / np.linalg.norm(classes, axis=1, keepdims=True))).sum(axis=2)
    return np.argsort(-scores, axis=1, kind="stable"), scores


def test_published_accuracy():
    golden = load_golden("accuracy")
    scores, labels = np.array(golden["scores"]), np.array(golden["labels"])
    expected = [100 * value for value in golden["top1_5_10"]]
    for ranks in (ranks_of_scores(scores, labels), classify(scores, np.eye(11), labels).ranks):
        found = accuracies(ranks, labels, 11)
        assert [found[name] for name in ("top1", "top5", "top10")] == pytest.approx(expected, abs=1e-12)


def test_ranks_and_predictions_are_those_of_a_sort(many):
    images, classes, labels = many
    found = classify(images, classes, labels)
    order, _ = sorted_classes(images, classes)
    np.testing.assert_array_equal(found.ranks, np.argmax(order == labels[:, None], axis=1))
    np.testing.assert_array_equal(found.predicted, order[:, 0])
    assert 0.1 < np.mean(found.ranks < 1) < 0.9
    twin = labels == 39
    assert twin.any() and (found.ranks[twin] > 0).all(), "of two equal classes the first wins"


@pytest.mark.parametrize("top_k", [1, 4, 12, 40])
def test_masked_scores_rank_as_the_published_mask_does(many, top_k):
    """All but the best scores are -100: sorted as the rest is, equal ones by their index."""
    images, classes, labels = many
    order, scores = sorted_classes(images, classes)
    masked = np.full(scores.shape, -100.0)
    np.put_along_axis(masked, order[:, :top_k], np.take_along_axis(scores, order[:, :top_k], 1), 1)
    expected = np.argmax(np.argsort(-masked, axis=1, kind="stable") == labels[:, None], axis=1)
    np.testing.assert_array_equal(classify(images, classes, labels, top_k).ranks, expected)


def test_a_mask_of_more_than_ten_changes_no_accuracy(many):
    images, classes, labels = many
    free, masked = (classify(images, classes, labels, top_k).ranks for top_k in (None, 11))
    assert not np.array_equal(free, masked)
    assert accuracies(free, labels, 40) == accuracies(masked, labels, 40)


@pytest.mark.parametrize("top_k", [0, 41])
def test_a_mask_of_more_classes_than_there_are(many, top_k):
    with pytest.raises(UserError, match=f"--top-k {top_k}: there are 40 classes; give 1 to 40"):
        classify(*many, top_k)


def test_a_model_that_sees_nothing_reaches_chance():
    labels = np.repeat(np.arange(20), 3)
    found = classify(np.ones((60, 4)), np.ones((20, 4)), labels)
    assert accuracies(found.ranks, labels, 20) == {"top1": 5, "top5": 25, "top10": 50, "mean_per_class": 5}


def test_classes_count_alike_in_their_mean():
    labels = np.array([0, 0, 0, 0, 2, 2])
    ranks = np.array([0, 0, 0, 1, 3, 0])
    np.testing.assert_array_equal(class_accuracies(ranks, labels, 4), [75, np.nan, 50, np.nan])
    assert accuracies(ranks, labels, 4) == {"top1": pytest.approx(400 / 6), "mean_per_class": 62.5}
    np.testing.assert_array_equal(class_accuracies(ranks, labels, 4, k=2), [100, np.nan, 50, np.nan])


@pytest.mark.parametrize(
    "classes, names",
    [(2, ["top1"]), (5, ["top1"]), (6, ["top1", "top5"]), (10, ["top1", "top5"]), (11, ["top1", "top5", "top10"])],
)
def test_only_what_says_something_is_a_metric(classes, names):
    assert metric_names(classes) == (*names, "mean_per_class")


def test_confusions():
    labels, predicted = np.array([0, 0, 0, 1, 2, 2, 2]), np.array([0, 2, 2, 1, 1, 0, 0])
    np.testing.assert_array_equal(confusion_matrix(labels, predicted, 3), [[1, 0, 2], [0, 1, 0], [2, 1, 0]])
    assert most_taken_for(labels, predicted, 3) == [(2, 2), (-1, 0), (0, 2)]


def test_features_that_are_no_numbers():
    with pytest.raises(UserError, match="1 of 2 rows hold NaN"):
        classify(np.array([[1.0, 0], [np.nan, 0]]), np.eye(2), np.array([0, 1]))
