"""Ranks of two stages against the published code's numbers and against counting."""

import numpy as np
import pytest
from golden_cclm_retrieval import golden_retrieval

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.evaluation.metrics.ranking import NO_RANK, retrieval_ranks
from mlvl_fairseq.evaluation.metrics.retrieval import METRICS, recalls
from mlvl_fairseq.evaluation.metrics.two_stage import Candidates, best_candidates, published_ranks, reranked

TABLE, ARRAYS = golden_retrieval()
TEXT_TO_IMAGE = np.arange(10) // 2  # of the golden evaluation: two captions an image


def of_matrices(image_scores, text_scores, k):
    """The k best of given matrices as candidates, with their scores."""
    candidates = Candidates(*(np.argsort(-np.array(scores), axis=1)[:, :k] for scores in (image_scores, text_scores)))
    picked = [np.take_along_axis(np.array(s), c, axis=1) for s, c in zip((image_scores, text_scores), candidates)]
    return candidates, *picked


def golden(metrics):
    """The same numbers of queries; only the last bit of a percentage may differ."""
    return pytest.approx({name: metrics[name] for name in METRICS}, rel=1e-14)


def published(image_scores, text_scores, k, text_to_image):
    return recalls(*published_ranks(*of_matrices(image_scores, text_scores, k), text_to_image))


@pytest.mark.parametrize("world", ["", "_world2"])
def test_golden_metrics_of_the_golden_matrices(world):
    """With two ranks all scores are 100 lower, which only changes them where there is room between these and -100."""
    section = TABLE[f"retrieval_eval{world}"]
    name = "score_{}_after_all_reduce" if world else "score_{}"
    matrices = [np.array(section[name.format(way)]) + (100 if world else 0) for way in ("i2t", "t2i")]
    assert published(*matrices, 3, TEXT_TO_IMAGE) == golden(section["metrics"])


def test_golden_candidates():
    """Which ones were scored follows from the golden features."""
    candidates = best_candidates(ARRAYS["image_feat"], ARRAYS["text_feat"], TEXT_TO_IMAGE, 3)
    for found, matrix in zip(candidates, (ARRAYS["score_i2t"], ARRAYS["score_t2i"])):
        scored = np.zeros(matrix.shape, bool)
        np.put_along_axis(scored, found, True, axis=1)
        np.testing.assert_array_equal(scored, matrix > -100)


@pytest.mark.parametrize("k, name", [(120, "metrics"), (16, "metrics_top16_rest_minus100")])
def test_golden_recalls_of_given_matrices(k, name):
    scores = ARRAYS["itm_score_i2t"]
    assert published(scores, scores.T, k, np.arange(120) // 3) == golden(TABLE["itm_eval"][name])


def test_golden_recalls_of_images_with_one_two_and_three_captions():
    section = TABLE["itm_eval"]["uneven"]
    owners = {text: int(image) for image, texts in section["img2txt"].items() for text in texts}
    scores = np.array(section["score_i2t"])
    found = published(scores, scores.T, 7, [owners[text] for text in range(7)])
    assert found == golden(section["metrics"])


@pytest.fixture(scope="module")
def drawn():
    """Features of 9 images and 23 captions, some of them equal, and scores of all pairs."""
    rng = np.random.default_rng(0)
    images, texts = rng.standard_normal((9, 4)).astype(np.float32), rng.standard_normal((23, 4)).astype(np.float32)
    texts[[5, 17]], images[6] = texts[2], images[1]
    owners = np.concatenate([np.arange(9), rng.integers(0, 9, 14)])
    scores = rng.integers(-200, 200, (9, 23)).astype(np.float32)  # some below -100, some equal
    return images, texts, owners, scores


def by_counting(order, second, k):
    """[q, n] ranks of every candidate: by the second score among the first k of an order, behind them as before."""
    ranks = np.empty(order.shape, np.int64)
    for query, row in enumerate(order):
        for place, candidate in enumerate(row):
            own = second[query, candidate]
            best = [c for c in row[:k] if (-second[query, c], c) < (-own, candidate)]
            ranks[query, candidate] = len(best) if place < k else place
    return ranks


@pytest.mark.parametrize("k", [1, 2, 5, 9, 23, 100])
def test_candidates_and_ranks_are_those_of_counting(drawn, k):
    images, texts, owners, scores = drawn
    unit = [
        part.astype(np.float64) / np.linalg.norm(part.astype(np.float64), axis=1)[:, None] for part in (images, texts)
    ]
    cosines = (unit[0] @ unit[1].T).round(6)  # equal features are equal here
    orders = [np.argsort(-side, axis=1, kind="stable") for side in (cosines, cosines.T)]
    candidates = best_candidates(images, texts, owners, k)
    for found, order in zip(candidates, orders):
        np.testing.assert_array_equal(found, order[:, :k])
    of_texts, of_images = (by_counting(order, side, k) for order, side in zip(orders, (scores, scores.T)))
    pair_images, pair_texts = candidates.pairs()
    ranks = reranked(
        candidates,
        *candidates.split(scores[pair_images, pair_texts]),
        owners,
        *retrieval_ranks(images, texts, owners, normalise=True),
    )
    assert ranks[0].tolist() == [of_texts[image, owners == image].min() for image in range(9)]
    assert ranks[1].tolist() == [of_images[text, owners[text]] for text in range(23)]


def test_what_is_not_scored_by_hand():
    """One candidate each of three images and texts, a text an image. What is not scored stays in the order of the
    vectors; as published it has -100, the larger index is first, and a score may be below it."""
    candidates = Candidates(np.array([[0], [0], [0]]), np.array([[0], [2], [2]]))
    scores, owners = (np.array([[3.0], [3.0], [-101.0]]), np.array([[3.0], [3.0], [-101.0]])), np.arange(3)
    house = reranked(candidates, *scores, owners, np.array([0, 2, 1]), np.array([0, 1, 0]))
    assert [side.tolist() for side in house] == [[0, 2, 1], [0, 1, 0]]
    published_way = published_ranks(candidates, *scores, owners)
    assert [side.tolist() for side in published_way] == [[0, 2, 0], [0, 1, 2]]


def test_images_without_captions_have_no_rank():
    candidates = best_candidates(np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)[:2], np.array([0, 1]), 2)
    scores = candidates.split(np.zeros(len(candidates.pairs()[0]), np.float32))
    assert published_ranks(candidates, *scores, [0, 1])[0][2] == NO_RANK
    first = np.array([0, 0, NO_RANK]), np.array([0, 0])
    assert reranked(candidates, *scores, [0, 1], *first)[0].tolist() == [0, 1, NO_RANK]


def test_features_that_are_no_numbers_are_refused():
    with pytest.raises(UserError, match="text features: 1 of 2 rows hold NaN"):
        best_candidates(np.eye(2), np.array([[1, 0], [np.nan, 0]]), np.array([0, 1]), 1)
