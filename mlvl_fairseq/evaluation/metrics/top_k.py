"""Retrieval ranks as the ALBEF family counts them: of a query's candidates only the best count, and of equal scores the
last candidate's is first."""

from typing import Tuple

import numpy as np

from mlvl_fairseq.evaluation.metrics.ranking import NO_RANK, ScaledFeatures, check_pairs

CHUNK = 128  # queries at a time: their scores of all candidates are held


def top_k_ranks(
    image_features, text_features, text_to_image, k: int, normalise: bool = False
) -> Tuple[np.ndarray, np.ndarray]:
    """As :func:`retrieval_ranks`, but all scores of a query below its `k` best are one and the same, and among equal
    scores the largest index is first (an ascending order, read backwards).

    With k of 10 and more recall at 1, 5 and 10 is that without it, but for equal scores. The published code sorts what
    is masked by no stable order, so that recall beyond k is not determined there. With fewer than k candidates nothing
    is masked. Scores are exact (float64 on a grid).

    Returns:
        (image_to_text_ranks [n], text_to_image_ranks [m]), int64, 0 = best; of an image without texts
        :data:`~mlvl_fairseq.evaluation.metrics.ranking.NO_RANK`.
    """
    images = ScaledFeatures(image_features, "image features", normalise)
    texts = ScaledFeatures(text_features, "text features", normalise)
    text_to_image = check_pairs(images, texts, text_to_image, CHUNK)
    of_texts = np.full((len(texts)), NO_RANK, np.int64)  # rank of each text for its image
    text_ranks = np.empty(len(texts), np.int64)
    for rows, places in _places(images, texts, k):
        own = np.flatnonzero((text_to_image >= rows.start) & (text_to_image < rows.stop))
        of_texts[own] = places[text_to_image[own] - rows.start, own]
    for rows, places in _places(texts, images, k):
        text_ranks[rows] = places[np.arange(len(places)), text_to_image[rows]]
    image_ranks = np.full(len(images), len(texts), np.int64)
    np.minimum.at(image_ranks, text_to_image, of_texts)
    image_ranks[image_ranks == len(texts)] = NO_RANK
    return image_ranks, text_ranks


def _places(queries: ScaledFeatures, candidates: ScaledFeatures, k: int):
    """Yield slices of queries with the rank [q, candidates] of every candidate."""
    grid = candidates.on_grid(np.arange(len(candidates))).astype(np.float64).T
    for start in range(0, len(queries), CHUNK):
        rows = slice(start, min(start + CHUNK, len(queries)))
        scores = queries.on_grid(np.arange(rows.start, rows.stop)).astype(np.float64) @ grid
        order = np.argsort(scores, axis=1, kind="stable")[:, ::-1]
        order[:, k:] = np.sort(order[:, k:], axis=1)[:, ::-1]
        places = np.empty_like(order)
        np.put_along_axis(places, order, np.arange(order.shape[1])[None], axis=1)
        yield rows, places
