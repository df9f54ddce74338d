"""Recall among distinct images against a list that is walked through as the published evaluation does it."""

import numpy as np
import pytest

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.evaluation.metrics.deduplicated import deduplicated_ranks
from mlvl_fairseq.evaluation.metrics.ranking import retrieval_ranks
from mlvl_fairseq.evaluation.metrics.retrieval import METRICS, retrieval_scores


def data(n_images, texts_per_image, seed=0, noise=1.0):
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((n_images, 8)).astype(np.float32)
    text_to_image = rng.permutation(np.repeat(np.arange(n_images), texts_per_image))
    texts = images[text_to_image] + noise * rng.standard_normal((len(text_to_image), 8)).astype(np.float32)
    return images, texts, text_to_image


def hits(images, texts, text_to_image, k):
    """Share of queries, one a text, whose image is among the first k distinct images of the texts found, in %."""
    normed = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (images.astype(np.float64), texts)]
    found = 0
    for text, image in enumerate(text_to_image):
        ranked = text_to_image[np.argsort(-(normed[1] @ normed[0][image]), kind="stable")]
        distinct = list(dict.fromkeys(ranked.tolist()))
        found += image in distinct[:k]
    return 100 * found / len(text_to_image)


@pytest.mark.parametrize("n_images, texts_per_image", [(30, 5), (300, 2), (9, [1, 2, 3, 4, 5, 1, 1, 9, 1])])
def test_recalls_are_those_of_the_walked_list(n_images, texts_per_image):
    images, texts, text_to_image = data(n_images, texts_per_image)
    scores = retrieval_scores(images, texts, text_to_image, recall="deduplicated")
    for k in (1, 5, 10):
        assert scores[f"txt_r{k}"] == pytest.approx(hits(images, texts, text_to_image, k))
    standard = retrieval_scores(images, texts, text_to_image)
    assert [scores[f"img_r{k}"] for k in (1, 5, 10)] == [standard[f"img_r{k}"] for k in (1, 5, 10)]
    assert scores["r_mean"] == pytest.approx(np.mean([scores[name] for name in METRICS[:6]]))


def test_five_captions_an_image_make_it_lenient_but_for_the_first_place():
    images, texts, text_to_image = data(200, 5, noise=1.5)
    scores = [retrieval_scores(images, texts, text_to_image, recall=name) for name in ("standard", "deduplicated")]
    assert scores[0]["txt_r1"] == scores[1]["txt_r1"]
    assert scores[0]["txt_r10"] < scores[1]["txt_r10"] - 1


def test_one_caption_an_image_is_the_standard():
    images, texts, text_to_image = data(150, 1, noise=2)
    image_ranks, text_ranks = retrieval_ranks(images, texts, text_to_image, normalise=True)
    found = deduplicated_ranks(images, texts, text_to_image, normalise=True)
    assert np.array_equal(found[0], image_ranks[text_to_image]) and np.array_equal(found[1], text_ranks)


def test_equal_scores_are_ranked_by_index():
    ranks, _ = deduplicated_ranks(np.ones((3, 2)), np.ones((6, 2)), np.array([2, 2, 1, 1, 0, 0]))
    assert ranks.tolist() == [2, 2, 1, 1, 0, 0]


def test_images_without_text_are_no_candidates():
    images = np.array([[2.0, 0], [1, 0], [0, 1]])
    ranks, _ = deduplicated_ranks(images, np.array([[1.0, 0], [0, 1]]), np.array([1, 2]))
    assert ranks.tolist() == [0, 0]


def test_pairs_are_checked():
    with pytest.raises(UserError, match="belongs to image row 5"):
        deduplicated_ranks(np.eye(2), np.eye(2), np.array([0, 5]))
