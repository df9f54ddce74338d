"""Image-to-text ranks among distinct images, as mCLIP's evaluation counts them (Chen et al. 2023)."""

from typing import Tuple

import numpy as np

from mlvl_fairseq.evaluation.metrics.ranking import ScaledFeatures, check_pairs, retrieval_ranks

CHUNK = 128  # images at a time: their scores of all texts are held


def deduplicated_ranks(
    image_features, text_features, text_to_image, normalise: bool = False
) -> Tuple[np.ndarray, np.ndarray]:
    """As :func:`retrieval_ranks`, but an image's texts compete with images, not with texts: of the texts found for an
    image, each other image counts once, by its best one. Every text asks for its image and for itself, so that images
    with more texts weigh more.

    With one text an image it is the standard; with five, recall at 5 and 10 of texts is higher. Scores are exact
    (float64 on a grid), ties are resolved by index.

    Returns:
        (image_to_text_ranks [m], text_to_image_ranks [m]), int64, 0 = best.
    """
    images = ScaledFeatures(image_features, "image features", normalise)
    texts = ScaledFeatures(text_features, "text features", normalise)
    text_to_image = check_pairs(images, texts, text_to_image, CHUNK)
    order = np.argsort(text_to_image, kind="stable")
    used, starts = np.unique(text_to_image[order], return_index=True)
    candidates = texts.on_grid(order).astype(np.float64)
    ranks = np.empty(len(images), np.int64)
    for start in range(0, len(used), CHUNK):
        rows = np.arange(start, min(start + CHUNK, len(used)))
        scores = images.on_grid(used[rows]).astype(np.float64) @ candidates.T
        ranks[used[rows]] = _ranks_of(np.maximum.reduceat(scores, starts, axis=1), rows)
    _, text_ranks = retrieval_ranks(image_features, text_features, text_to_image, normalise=normalise)
    return ranks[text_to_image], text_ranks


def _ranks_of(scores: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The rank of each row's own column among its scores [q, n]."""
    own = scores[np.arange(len(columns)), columns][:, None]
    earlier = np.arange(scores.shape[1]) < columns[:, None]
    return ((scores > own) | ((scores == own) & earlier)).sum(axis=1)
