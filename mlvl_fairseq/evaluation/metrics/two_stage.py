"""Ranks of two stages: the best candidates of each query by their features, put in another order by better scores."""

from typing import Dict, NamedTuple, Tuple

import numpy as np

from mlvl_fairseq.evaluation.metrics.nearest import nearest_rows
from mlvl_fairseq.evaluation.metrics.ranking import NO_RANK, ScaledFeatures, check_pairs
from mlvl_fairseq.evaluation.metrics.top_k import CHUNK

NOT_SCORED = -100.0  # what the published code gives all other candidates


class Candidates(NamedTuple):
    """What is scored in the second stage: of each query its best candidates, best first.

    Attributes:
        texts: int64 [n, k], of each image. images: int64 [m, l], of each text.
    """

    texts: np.ndarray
    images: np.ndarray

    def pairs(self) -> Tuple[np.ndarray, np.ndarray]:
        """Image and text of each pair, int64 [n * k + m * l]: first the images', then the texts'."""
        (n, k), (m, number) = self.texts.shape, self.images.shape
        images = np.concatenate([np.repeat(np.arange(n), k), self.images.reshape(-1)])
        return images, np.concatenate([self.texts.reshape(-1), np.repeat(np.arange(m), number)])

    def split(self, scores: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Scores of :meth:`pairs` -> those of `texts` [n, k] and of `images` [m, l]."""
        first, second = np.split(scores, [self.texts.size])
        return first.reshape(self.texts.shape), second.reshape(self.images.shape)


def best_candidates(image_features, text_features, text_to_image, k: int, normalise: bool = True) -> Candidates:
    """The `k` best candidates of each query, or all where there are fewer, by scores that are exact
    (:mod:`~mlvl_fairseq.evaluation.metrics.ranking`); of equal ones those of smaller index.

    Args:
        image_features: [n, d]. text_features: [m, d]. text_to_image: [m]. normalise: cosine scores.

    Raises:
        UserError: features and pairs do not fit together, or features are not finite.
    """
    images = ScaledFeatures(image_features, "image features", normalise)
    texts = ScaledFeatures(text_features, "text features", normalise)
    check_pairs(images, texts, text_to_image, CHUNK)
    return Candidates(*(nearest_rows(*sides, k).indices for sides in ((images, texts), (texts, images))))


def reranked(
    candidates: Candidates,
    image_scores: np.ndarray,
    text_scores: np.ndarray,
    text_to_image,
    image_ranks: np.ndarray,
    text_ranks: np.ndarray,
) -> Tuple[np.ndarray, np.ndarray]:
    """Ranks where candidates go by their scores, and all others stay where they were: behind them.

    Args:
        image_scores: [n, k], of `candidates.texts`. text_scores: [m, l], of `candidates.images`; of equal ones the
            candidate of smaller index is first.
        text_to_image: int [m], the image of each text.
        image_ranks, text_ranks: of the first stage, int64 [n] and [m], as
            :func:`~mlvl_fairseq.evaluation.metrics.ranking.retrieval_ranks` gives them.

    Returns:
        (image_to_text_ranks [n], text_to_image_ranks [m]), int64, 0 = best.
    """
    text_to_image = np.asarray(text_to_image)
    own_texts = text_to_image[candidates.texts] == np.arange(len(candidates.texts))[:, None]
    own_images = candidates.images == text_to_image[:, None]
    return (
        _where_found(_places(candidates.texts, image_scores), own_texts, image_ranks),
        _where_found(_places(candidates.images, text_scores), own_images, text_ranks),
    )


def _places(candidates: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The rank of each candidate [q, k] among those of its query."""
    order = np.lexsort((candidates, -scores), axis=1)
    places = np.empty_like(order)
    np.put_along_axis(places, order, np.arange(order.shape[1])[None], axis=1)
    return places


def _where_found(places: np.ndarray, own: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The best place [q] of what is the query's own [q, k]; where it is not among them, that of `others`."""
    best = np.where(own, places, places.shape[1]).min(axis=1)
    return np.where(own.any(axis=1), best, others)


def published_ranks(
    candidates: Candidates, image_scores: np.ndarray, text_scores: np.ndarray, text_to_image
) -> Tuple[np.ndarray, np.ndarray]:
    """As :func:`reranked`, but as CCLM's evaluation (Zeng et al. 2023) counts them: what is not scored has the score
    :data:`NOT_SCORED`, and of equal scores the larger index is first (an ascending order, read backwards).

    That order is not stable in the published code, so that recall beyond the number of candidates is not determined
    there for more than 16 of them.
    """
    text_to_image = np.asarray(text_to_image)
    n, m = len(candidates.texts), len(candidates.images)
    image_ranks, text_ranks = np.full(n, NO_RANK, np.int64), np.empty(m, np.int64)
    texts_of: Dict[int, list] = {}
    for text, image in enumerate(text_to_image):
        texts_of.setdefault(int(image), []).append(text)
    for image, texts in texts_of.items():
        image_ranks[image] = _published_places(candidates.texts[image], image_scores[image], m)[texts].min()
    for text, image in enumerate(text_to_image):
        text_ranks[text] = _published_places(candidates.images[text], text_scores[text], n)[image]
    return image_ranks, text_ranks


def _published_places(candidates: np.ndarray, scores: np.ndarray, number: int) -> np.ndarray:
    """The rank of each of `number` candidates of one query."""
    row = np.full(number, NOT_SCORED)
    row[candidates] = scores
    places = np.empty(number, np.int64)
    places[np.argsort(row, kind="stable")[::-1]] = np.arange(number)
    return places
