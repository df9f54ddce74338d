"""Translate-test and fusion: captions E translated to English beside the foreign captions F, weighted by eta.

Translate-test ranks by E alone (eta = 1), eta = 0 by F alone. With unit features t_E, t_F of a caption pair and v of an
image (the fusion experiments of Yang et al. 2024):

* score fusion: ``eta * t_E.v + (1 - eta) * t_F.v``, which is the one product ``(eta t_E + (1 - eta) t_F).v``
* feature fusion: ``normalise(eta t_E + (1 - eta) t_F).v``

The two differ by the length of the fused feature, hence from image to text only. Both are ranked by
:mod:`mlvl_fairseq.evaluation.metrics.ranking` as any other features.
"""

from collections import defaultdict
from typing import Callable, Dict, List, Sequence

import numpy as np

from mlvl_fairseq.data.captions.table import CaptionTable
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.evaluation.metrics.retrieval import retrieval_scores

SMALLEST_NORM = 1e-12  # that of torch.nn.functional.normalize
ETAS = tuple(step / 10 for step in range(11))


def score_fusion(english: np.ndarray, foreign: np.ndarray, eta: float) -> np.ndarray:
    """Features [n, d] whose products with unit image features are the fused scores."""
    return eta * english + (1 - eta) * foreign


def feature_fusion(english: np.ndarray, foreign: np.ndarray, eta: float) -> np.ndarray:
    """Fused features [n, d] of length 1."""
    return unit_rows(score_fusion(english, foreign, eta))


FUSIONS: Dict[str, Callable[[np.ndarray, np.ndarray, float], np.ndarray]] = {
    "score": score_fusion,
    "feature": feature_fusion,
}


def unit_rows(features) -> np.ndarray:
    """float64 rows divided by their Euclidean norm."""
    rows = np.asarray(features, np.float64)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), SMALLEST_NORM)


def fusion_scores(
    image_features,
    english_features,
    foreign_features,
    text_to_image,
    fusions: Sequence[str] = tuple(FUSIONS),
    etas: Sequence[float] = ETAS,
    n_fold: int = 1,
) -> List[Dict[str, object]]:
    """Retrieval scores of every fusion and eta.

    Args:
        image_features: [images, d].
        english_features: [n, d], of the translations. foreign_features: [n, d], of the captions themselves. All in one
            space, of any length.
        text_to_image: int [n], the image row of each pair.
        fusions: names in :data:`FUSIONS`.
        etas: weights of English, within [0, 1].
        n_fold: average over this many contiguous parts of the images.

    Returns:
        a row for each fusion and eta: ``fusion``, ``eta`` and ``txt_r1 ... r_mean`` in %.

    Raises:
        UserError: a weight is not within [0, 1], or features do not fit together.
    """
    outside = [eta for eta in etas if not 0 <= eta <= 1]
    if outside or not len(etas):
        raise UserError(f"eta must be within 0 and 1, not {outside[0] if outside else 'nothing'}")
    images, english, foreign = map(unit_rows, (image_features, english_features, foreign_features))
    if len({part.shape[1] for part in (images, english, foreign)}) > 1 or english.shape != foreign.shape:
        shapes = f"images {images.shape}, English {english.shape}, foreign {foreign.shape}"
        raise UserError(f"features do not fit ({shapes}): use models of one feature space")
    rows = []
    for name in fusions:
        for eta in etas:
            texts = FUSIONS[name](english, foreign, eta)
            scores = retrieval_scores(images, texts, text_to_image, n_fold=n_fold, normalise=False)
            rows.append({"fusion": name, "eta": eta, **scores})
    return rows


def paired_translations(foreign: CaptionTable, english: CaptionTable) -> List[str]:
    """The English caption of each foreign one: the k-th of an image translates the k-th of the same image.

    Raises:
        DataError: an image has more or fewer captions in one file than in the other.
    """
    theirs = _captions_by_image(english)
    mine = _captions_by_image(foreign)
    for image in [*mine, *theirs]:
        here, there = len(mine.get(image, ())), len(theirs.get(image, ()))
        if here != there:
            message = f"image {image!r} has {there} captions, and {here} in {foreign.path}: give their translations"
            raise DataError(message, english.path)
    in_turn = {image: iter(captions) for image, captions in theirs.items()}
    return [next(in_turn[foreign.images[row]]) for row in foreign.image_rows]


def _captions_by_image(table: CaptionTable) -> Dict[str, List[str]]:
    captions = defaultdict(list)
    for row, caption in zip(table.image_rows, table.captions):
        captions[table.images[row]].append(caption)
    return captions
