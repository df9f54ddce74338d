"""Retrieval as the ALBEF family scores it: against the published code's metrics and score matrices."""

import numpy as np
import pytest
from golden import load_golden

from mlvl_fairseq.evaluation.metrics.ranking import NO_RANK, retrieval_ranks
from mlvl_fairseq.evaluation.metrics.retrieval import METRICS, rank_queries, scores_of_ranks
from mlvl_fairseq.evaluation.metrics.top_k import top_k_ranks

GOLDEN = load_golden("top_k")
MASKED = -100.0


def scores_by(similarities, text_to_image, k):
    """Scores whose products are these similarities: pictures are rows, captions are units."""
    images, texts = np.asarray(similarities, np.float64), np.eye(len(text_to_image))
    ranks = rank_queries(images, texts, np.asarray(text_to_image), normalise=False, top_k=k)
    return scores_of_ranks(*ranks, text_to_image)


def images_of_texts(case):
    images, texts = np.shape(case["sim"])
    given = case.get("img2txt")
    if given is None:
        return np.arange(texts) * images // texts
    return np.array([image for image, own in sorted(given.items()) for _ in own], int)


@pytest.mark.parametrize(
    "case", GOLDEN["retrieval_metrics"], ids=lambda case: case.get("note", "")[:14] or case["seed"]
)
@pytest.mark.parametrize("k", [10, 128])
def test_published_metrics(case, k):
    """Uneven numbers of captions, and scores that are all equal, among them."""
    found = scores_by(case["sim"], images_of_texts(case), k)
    assert found == pytest.approx({metric: case["result"][metric] for metric in METRICS}, abs=1e-9)


@pytest.mark.parametrize("k", [3, 6])
def test_published_evaluation(k):
    """Its k are below 10, so that it sorts masked scores by no stable order: recall beyond k is its sort's, and is the
    published one if that sort (numpy's introsort) is followed step by step."""
    golden, similarities = GOLDEN["evaluation"][str(k)], np.array(GOLDEN["evaluation"]["6"]["score_t2i"]).T
    of_texts = np.repeat(np.arange(6), 3)
    found = scores_by(similarities, of_texts, k)
    sure = [metric for metric in METRICS[:-1] if int(metric.rpartition("r")[2]) <= k or metric.startswith("img")]
    assert len(sure) == (4 if k == 3 else 5)
    assert {m: found[m] for m in sure} == pytest.approx({m: golden["metrics"][m] for m in sure}, abs=1e-9)
    of_images, masked = np.array(golden["score_i2t"]), np.full((6, 18), MASKED)
    images, _ = top_k_ranks(similarities, np.eye(18), of_texts, k)
    for image, row in enumerate(similarities):
        best = np.argsort(-row)[:k]
        masked[image, best] = row[best]
        places = [introsort(masked[image])[::-1].index(text) for text in range(18)]
        own = min(places[3 * image : 3 * image + 3])
        assert (own < k) == (images[image] < k) and (own >= k or own == images[image])
        for depth in (1, 5, 10):
            golden.setdefault("found", {}).setdefault(depth, []).append(own < depth)
    np.testing.assert_array_equal(masked, of_images)
    for depth, hits in golden.pop("found").items():
        assert 100 * np.mean(hits) == pytest.approx(golden["metrics"][f"txt_r{depth}"])


def introsort(values):
    """Positions of ascending values, as numpy's ``argsort`` before version 1.25 orders equal ones."""
    order, parts = list(range(len(values))), [(0, len(values) - 1)]

    def swap(a, b):
        order[a], order[b] = order[b], order[a]

    def less(a, b):
        return values[order[a]] < values[order[b]]

    while parts:
        left, right = parts.pop()
        while right - left > 16:
            middle = left + (right - left) // 2
            for a, b in ((middle, left), (right, middle), (middle, left)):
                if less(a, b):
                    swap(a, b)
            pivot, i, j = values[order[middle]], left, right - 1
            swap(middle, j)
            while True:
                i += 1
                while values[order[i]] < pivot:
                    i += 1
                j -= 1
                while pivot < values[order[j]]:
                    j -= 1
                if i >= j:
                    break
                swap(i, j)
            swap(i, right - 1)
            larger, (left, right) = sorted([(left, i - 1), (i + 1, right)], key=lambda part: part[0] - part[1])
            parts.append(larger)
        for i in range(left + 1, right + 1):
            while i > left and less(i, i - 1):
                swap(i, i - 1)
                i -= 1
    return order


@pytest.mark.parametrize("shape", [(1, 1), (5, 9), (300, 40), (40, 300)])
def test_without_ties_it_is_the_standard_up_to_k(shape):
    generator = np.random.default_rng(0)
    images, texts = (generator.standard_normal((count, 7)) for count in shape)
    text_to_image = generator.integers(0, shape[0], shape[1])
    usual = retrieval_ranks(images, texts, text_to_image, normalise=True)
    for k in (1, 5, 10**6):
        for ours, theirs in zip(top_k_ranks(images, texts, text_to_image, k, normalise=True), usual):
            near = theirs < k
            assert np.array_equal(ours[near], theirs[near]) and ((ours[~near] >= k) | (ours[~near] == NO_RANK)).all()
            assert np.array_equal(ours == NO_RANK, theirs == NO_RANK)


def test_equal_scores_and_masked_ones_begin_with_the_last():
    images, texts = np.array([[3.0, 2, 2, 2, 1], [0] * 5]), np.eye(5)
    expected = {1: [0, 4, 3, 2, 1], 2: [0, 4, 3, 1, 2], 4: [0, 3, 2, 1, 4], 9: [0, 3, 2, 1, 4]}
    for k, places in expected.items():
        of_texts = [np.where(np.arange(5) == own, 0, 1) for own in range(5)]
        assert [top_k_ranks(images, texts, text_to_image, k)[0][0] for text_to_image in of_texts] == places
