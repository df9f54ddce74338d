"""Recalls against the published code and against a direct computation."""

import logging

import numpy as np
import pytest
from golden import assert_golden, det, load_golden

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.evaluation.metrics.retrieval import METRICS, rank_queries, retrieval_scores, scores_of_ranks


@pytest.fixture(scope="module")
def toy():
    """The reference's toy: 12 images with one to three captions each."""
    golden = load_golden("retrieval")
    images = det((12, 9), 1.0, 0.0)
    text_to_image = np.repeat(np.arange(12), golden["captions_per_image"])
    texts = [images[image] + det((9,), 1.5, 0.9 * text) for text, image in enumerate(text_to_image)]
    return golden, images, np.stack(texts), text_to_image


def test_golden(toy):
    golden, images, texts, text_to_image = toy
    scores = retrieval_scores(images, texts, text_to_image)
    assert list(scores) == list(METRICS)
    for metric in METRICS:
        assert_golden(scores[metric], golden["scores"][metric], msg=metric)


def test_golden_four_folds(toy):
    golden, images, texts, text_to_image = toy
    scores = retrieval_scores(images, texts, text_to_image, n_fold=4)
    for metric in METRICS:
        assert_golden(scores[metric], golden["scores_4fold"][f"4fold_{metric}"], msg=metric)


def test_uneven_folds_in_any_order_of_texts():
    rng = np.random.default_rng(0)
    text_to_image = rng.permutation(np.arange(70) % 23)
    images = rng.standard_normal((23, 6))
    texts = images[text_to_image] + rng.standard_normal((70, 6))
    folds = []
    for rows in (range(0, 8), range(8, 16), range(16, 23)):  # numpy.array_split: the first ones are larger
        texts_in = np.isin(text_to_image, rows)
        folds.append(retrieval_scores(images[rows], texts[texts_in], text_to_image[texts_in] - rows[0]))
    scores = retrieval_scores(images, texts, text_to_image, n_fold=3)
    assert scores == pytest.approx({metric: np.mean([fold[metric] for fold in folds]) for metric in METRICS})


def test_images_without_texts_are_candidates_but_no_queries(caplog):
    images = np.eye(4, dtype=np.float32)
    texts = images[[1, 1, 3]]
    with caplog.at_level(logging.WARNING):
        scores = retrieval_scores(images, texts, np.array([1, 1, 3]))
    assert scores["txt_r1"] == scores["img_r1"] == 100
    assert "2 of 4 images have no text" in caplog.text


def test_ranks_of_folds_and_of_distinct_images():
    """By hand: two folds of two images. Alone with the fourth image, the third finds its caption, which prefers the
    fourth; among all, captions of others come first."""
    images = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.6, 0.8]])
    texts = np.array([[0.9, 0.1], [0.2, 0.9], [0.8, 0.5], [0.1, 1.0], [0.7, 0.7]])
    text_to_image = np.array([0, 1, 2, 3, 3])
    image_ranks, text_ranks = rank_queries(images, texts, text_to_image, n_fold=2)
    assert image_ranks.tolist() == [0, 0, 0, 0] and text_ranks.tolist() == [0, 0, 1, 0, 0]
    image_ranks, text_ranks = rank_queries(images, texts, text_to_image)
    assert image_ranks.tolist() == [0, 1, 1, 0] and text_ranks[2] == 2
    image_ranks, _ = rank_queries(images, texts, text_to_image, recall="deduplicated")
    assert image_ranks.tolist() == [0, 1, 1, 0], "one rank an image, though the fourth has two captions"
    for n_fold, recall in ((2, "standard"), (2, "deduplicated"), (1, "deduplicated")):
        ranks = rank_queries(images, texts, text_to_image, n_fold, recall=recall)
        expected = retrieval_scores(images, texts, text_to_image, n_fold, recall=recall)
        assert scores_of_ranks(*ranks, text_to_image, n_fold, recall) == expected


def test_scores_that_follow_from_ranks_by_hand():
    """Image 0 has three texts: it is three queries where images count by text."""
    ranks, text_to_image = (np.array([0, 7]), np.array([0, 0, 6, 20])), np.array([0, 0, 0, 1])
    standard = scores_of_ranks(*ranks, text_to_image)
    by_text = scores_of_ranks(*ranks, text_to_image, recall="deduplicated")
    assert [standard[f"txt_r{k}"] for k in (1, 5, 10)] == [50, 50, 100]
    assert [by_text[f"txt_r{k}"] for k in (1, 5, 10)] == [75, 75, 100]
    assert [standard[f"img_r{k}"] for k in (1, 5, 10)] == [by_text[f"img_r{k}"] for k in (1, 5, 10)] == [50, 50, 75]
    folds = scores_of_ranks(*ranks, text_to_image, n_fold=2)
    assert [folds[f"img_r{k}"] for k in (1, 5, 10)] == pytest.approx([100 / 3, 100 / 3, 50])


def test_not_normalised():
    images, texts = np.array([[1.0, 0.0], [0.6, 0.8]]), np.array([[3.0, 0.0], [1.0, 1.0]])
    assert retrieval_scores(images, texts, np.array([0, 1]))["txt_r1"] == 100
    assert retrieval_scores(images, texts, np.array([0, 1]), normalise=False)["txt_r1"] == 50


@pytest.mark.parametrize("n_fold, message", [(0, "into 0 folds"), (5, "into 5 folds"), (2, "rows 2 to 3 has no texts")])
def test_bad_folds(n_fold, message):
    with pytest.raises(UserError, match=message):
        retrieval_scores(np.eye(4), np.eye(4)[:2], np.arange(2), n_fold=n_fold)


def test_diverged_model():
    with pytest.raises(UserError, match="text features: 2 of 2 rows hold NaN"):
        retrieval_scores(np.eye(2), np.full((2, 2), np.nan), np.arange(2))
