"""Recall of image-text retrieval in both directions, as published tables give it."""

import logging
from dataclasses import dataclass
from typing import Callable, Dict, List, Tuple

import numpy as np

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.evaluation.metrics.deduplicated import deduplicated_ranks
from mlvl_fairseq.evaluation.metrics.ranking import NO_RANK, retrieval_ranks

logger = logging.getLogger(__name__)

RECALL_AT = (1, 5, 10)
RECALLS = tuple(f"{direction}_r{k}" for direction in ("txt", "img") for k in RECALL_AT)
METRICS = (*RECALLS, "r_mean")


@dataclass(frozen=True)
class Convention:
    """How recall is counted.

    Attributes:
        captions: what signatures say of it. ranks: features and pairs -> ranks of images and of texts.
    """

    captions: str
    ranks: Callable[..., Tuple[np.ndarray, np.ndarray]]


CONVENTIONS = {
    "standard": Convention("any", retrieval_ranks),
    "deduplicated": Convention("deduplicated", deduplicated_ranks),
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
    rank = CONVENTIONS[recall].ranks
    n_images, text_to_image = len(image_features), np.asarray(text_to_image)
    if not 1 <= n_fold <= max(1, n_images):
        raise UserError(f"cannot cut {n_images} images into {n_fold} folds")
    if n_fold == 1:
        return recalls(*rank(image_features, text_features, text_to_image, normalise=normalise))
    folds: List[Dict[str, float]] = []
    for images in np.array_split(np.arange(n_images), n_fold):
        start, stop = images[0], images[-1] + 1
        texts = np.flatnonzero((text_to_image >= start) & (text_to_image < stop))
        if not len(texts):
            raise UserError(f"the fold of image rows {start} to {stop - 1} has no texts; use fewer folds")
        ranks = rank(
            image_features[start:stop], text_features[texts], text_to_image[texts] - start, normalise=normalise
        )
        folds.append(recalls(*ranks))
    return {metric: float(np.mean([fold[metric] for fold in folds])) for metric in METRICS}


def recalls(image_ranks: np.ndarray, text_ranks: np.ndarray) -> Dict[str, float]:
    """The scores that follow from the ranks of :func:`mlvl_fairseq.evaluation.metrics.ranking.retrieval_ranks`."""
    queries = image_ranks[image_ranks != NO_RANK]
    if len(queries) < len(image_ranks):
        left_out = len(image_ranks) - len(queries)
        logger.warning("%d of %d images have no text and do not count in txt_r*", left_out, len(image_ranks))
    values = [100.0 * float(np.mean(ranks < k)) for ranks in (queries, text_ranks) for k in RECALL_AT]
    return dict(zip(METRICS, [*values, float(np.mean(values))]))
