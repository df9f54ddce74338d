"""Recall of image-text retrieval in both directions, as published tables give it."""

import logging
from dataclasses import dataclass
from functools import partial
from typing import Callable, Dict, Iterator, Tuple

import numpy as np

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.evaluation.metrics.deduplicated import deduplicated_ranks
from mlvl_fairseq.evaluation.metrics.ranking import NO_RANK, retrieval_ranks
from mlvl_fairseq.evaluation.metrics.top_k import top_k_ranks

logger = logging.getLogger(__name__)

RECALL_AT = (1, 5, 10)
RECALLS = tuple(f"{direction}_r{k}" for direction in ("txt", "img") for k in RECALL_AT)
METRICS = (*RECALLS, "r_mean")


@dataclass(frozen=True)
class Convention:
    """How recall is counted.

    Attributes:
        captions: what signatures say of it.
        ranks: features and pairs -> ranks of images [n] and of texts [m].
        by_text: an image is a query once for each of its texts, not once.
    """

    captions: str
    ranks: Callable[..., Tuple[np.ndarray, np.ndarray]]
    by_text: bool = False


def _deduplicated(image_features, text_features, text_to_image, normalise: bool) -> Tuple[np.ndarray, np.ndarray]:
    """:func:`deduplicated_ranks`, with one rank an image: its texts share it."""
    of_texts, text_ranks = deduplicated_ranks(image_features, text_features, text_to_image, normalise=normalise)
    image_ranks = np.full(len(image_features), NO_RANK, np.int64)
    image_ranks[text_to_image] = of_texts
    return image_ranks, text_ranks


CONVENTIONS = {
    "standard": Convention("any", retrieval_ranks),
    "deduplicated": Convention("deduplicated", _deduplicated, by_text=True),
}


def retrieval_scores(
    image_features, text_features, text_to_image, n_fold: int = 1, normalise: bool = True, recall: str = "standard"
) -> Dict[str, float]:
    """Recall at 1, 5 and 10 in % and their mean.

    ``txt_r*``: texts found for an image, by its best ranked text; ``img_r*``: images found for a text; ``r_mean``: mean
    of the six. Images without any text cannot be queries; they are left out of ``txt_r*`` with a warning, and stay
    candidates of ``img_r*``.

    Args:
        image_features: [n, d] array, memory map or tensor.
        text_features: [m, d], the same kinds.
        text_to_image: [m] integers, the row of each text's image.
        n_fold: cut the images into this many contiguous folds (as ``numpy.array_split``), rank within each fold and
            average, e.g. 5 for the 1K protocol of MS-COCO.
        normalise: cosine scores; False if the rows already have norm 1.
        recall: a name in :data:`CONVENTIONS`.

    Raises:
        UserError: shapes that do not fit, image rows out of range, NaN or infinite features, a fold without texts.
    """
    ranks = rank_queries(image_features, text_features, text_to_image, n_fold, normalise, recall)
    return scores_of_ranks(*ranks, text_to_image, n_fold, recall)


def rank_queries(
    image_features,
    text_features,
    text_to_image,
    n_fold: int = 1,
    normalise: bool = True,
    recall: str = "standard",
    top_k: int = 0,
) -> Tuple[np.ndarray, np.ndarray]:
    """The ranks behind :func:`retrieval_scores`, with the same arguments: int64 [n] of images and [m] of texts, each
    within its fold; 0 = best. With `top_k`, those of :func:`top_k_ranks`."""
    rank = partial(top_k_ranks, k=top_k) if top_k else CONVENTIONS[recall].ranks
    text_to_image = np.asarray(text_to_image)
    if n_fold == 1:
        return rank(image_features, text_features, text_to_image, normalise=normalise)
    image_ranks = np.full(len(image_features), NO_RANK, np.int64)
    text_ranks = np.full(len(text_features), NO_RANK, np.int64)
    for images, texts in _folds(len(image_features), text_to_image, n_fold):
        own = text_to_image[texts] - images.start
        image_ranks[images], text_ranks[texts] = rank(
            image_features[images], text_features[texts], own, normalise=normalise
        )
    return image_ranks, text_ranks


def scores_of_ranks(
    image_ranks: np.ndarray, text_ranks: np.ndarray, text_to_image, n_fold: int = 1, recall: str = "standard"
) -> Dict[str, float]:
    """What :func:`retrieval_scores` gives, from the ranks of :func:`rank_queries`."""
    text_to_image = np.asarray(text_to_image)
    by_text = CONVENTIONS[recall].by_text
    if n_fold == 1:
        return recalls(image_ranks[text_to_image] if by_text else image_ranks, text_ranks)
    folds = [
        recalls(image_ranks[text_to_image[texts] if by_text else images], text_ranks[texts])
        for images, texts in _folds(len(image_ranks), text_to_image, n_fold)
    ]
    return {metric: float(np.mean([fold[metric] for fold in folds])) for metric in METRICS}


def _folds(n_images: int, text_to_image: np.ndarray, n_fold: int) -> Iterator[Tuple[slice, np.ndarray]]:
    """Image rows and text numbers of every fold."""
    if not 1 <= n_fold <= max(1, n_images):
        raise UserError(f"cannot cut {n_images} images into {n_fold} folds")
    for images in np.array_split(np.arange(n_images), n_fold):
        start, stop = int(images[0]), int(images[-1]) + 1
        texts = np.flatnonzero((text_to_image >= start) & (text_to_image < stop))
        if not len(texts):
            raise UserError(f"the fold of image rows {start} to {stop - 1} has no texts; use fewer folds")
        yield slice(start, stop), texts


def recalls(image_ranks: np.ndarray, text_ranks: np.ndarray) -> Dict[str, float]:
    """The scores that follow from the ranks of the queries in both directions."""
    queries = image_ranks[image_ranks != NO_RANK]
    if len(queries) < len(image_ranks):
        left_out = len(image_ranks) - len(queries)
        logger.warning("%d of %d images have no text and do not count in txt_r*", left_out, len(image_ranks))
    values = [100.0 * float(np.mean(ranks < k)) for ranks in (queries, text_ranks) for k in RECALL_AT]
    return dict(zip(METRICS, [*values, float(np.mean(values))]))
