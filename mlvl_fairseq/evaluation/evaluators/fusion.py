"""Translate-test and fusion: captions E translated to English beside the foreign captions F, weighted by eta.

Translate-test ranks by E alone (eta = 1), eta = 0 by F alone. With unit features t_E, t_F of a caption pair and v of an
image (the fusion experiments of Yang et al. 2024):

* score fusion: ``eta * t_E.v + (1 - eta) * t_F.v``, which is the one product ``(eta t_E + (1 - eta) t_F).v``
* feature fusion: ``normalise(eta t_E + (1 - eta) t_F).v``

The two differ by the length of the fused feature, hence from image to text only. Both are ranked by
:mod:`mlvl_fairseq.evaluation.metrics.ranking` as any other features.
"""

from collections import defaultdict
from typing import Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import nn

from mlvl_fairseq.arrays import unit_rows
from mlvl_fairseq.data.captions.table import CaptionTable
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.evaluation.evaluators.base import ImageFeatures, LeftOut
from mlvl_fairseq.evaluation.evaluators.retrieval import captions_without, retrieval_signature
from mlvl_fairseq.evaluation.metrics.retrieval import retrieval_scores
from mlvl_fairseq.inference.encoder import Encoder

ENGLISH = "en"
ETAS = tuple(step / 10 for step in range(11))


def score_fusion(english: np.ndarray, foreign: np.ndarray, eta: float) -> np.ndarray:
    """Features [n, d] whose products with unit image features are the fused scores."""
    return eta * english + (1 - eta) * foreign


def feature_fusion(english: np.ndarray, foreign: np.ndarray, eta: float) -> np.ndarray:
    """Fused features [n, d] of length 1."""
    return unit_rows(score_fusion(english, foreign, eta), np.float64)


FUSIONS: Dict[str, Callable[[np.ndarray, np.ndarray, float], np.ndarray]] = {
    "score": score_fusion,
    "feature": feature_fusion,
}


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
    features = (image_features, english_features, foreign_features)
    images, english, foreign = (unit_rows(rows, np.float64) for rows in features)
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


def translate_test(
    encoder: Encoder,
    english_encoder: Encoder,
    foreign: CaptionTable,
    english: Optional[CaptionTable],
    encode_images: Callable[[List[str]], ImageFeatures],
    lang: str,
    split: str = "test",
    fusions: Sequence[str] = tuple(FUSIONS),
    etas: Sequence[float] = ETAS,
    n_fold: int = 1,
    own: Optional[Mapping[str, object]] = None,
) -> Dict[str, object]:
    """Score translations, captions, and their fusions.

    Args:
        encoder: encodes the captions. english_encoder: encodes their translations; both share one feature space.
        foreign: the captions. english: their translations; None: the English sentences of the same file.
        encode_images: names -> features in that space of those that can be used; the others leave with their captions.
        lang, split: for the signature.
        fusions, etas, n_fold: see :func:`fusion_scores`. own: further keys of the signature.

    Returns:
        ``scores``: rows of :func:`fusion_scores`; ``signature``; and what was left out, if anything was.

    Raises:
        UserError: no translations, or models of different spaces.
        DataError: captions and translations differ in number.
    """
    require_one_space(encoder, english_encoder)
    if english is None and foreign.english is None:
        raise UserError(f"{foreign.path} has no English sentences: give the translations with --english-captions")
    translations = foreign.english if english is None else paired_translations(foreign, english)
    images = encode_images(foreign.images)
    foreign, translations, left_out = _usable(foreign, translations, images)
    rows = fusion_scores(
        images.of(foreign.images),
        english_encoder.encode_texts(translations, ENGLISH, progress="translations"),
        encoder.encode_texts(foreign.captions, lang, progress="captions"),
        foreign.image_rows,
        fusions,
        etas,
        n_fold,
    )
    pairs = [f"{caption}\n{translation}" for caption, translation in zip(foreign.captions, translations)]
    signature = retrieval_signature(
        encoder, foreign.images, pairs, foreign.image_rows, f"{lang}+{ENGLISH}", split, n_fold, own=own
    )
    return {"scores": rows, "signature": signature, **left_out}


def _usable(
    foreign: CaptionTable, translations: List[str], images: ImageFeatures
) -> Tuple[CaptionTable, List[str], Dict[str, object]]:
    """Captions and their translations whose images can be used, and what was left out, for JSON."""
    gone = set(foreign.images) - set(images.names)
    if not gone:
        return foreign, translations, {}
    kept = captions_without(foreign, gone)
    left_out = LeftOut([name for name in foreign.images if name in gone], len(foreign) - len(kept))
    left_out.tell(foreign.path)
    return foreign.select(kept), [translations[row] for row in kept], left_out.to_json()


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


def require_one_space(first: Encoder, second: Encoder) -> None:
    """Raises UserError: the two models' image sides show that their features cannot be compared."""
    if first.embed_dim != second.embed_dim:
        message = f"{first.embed_dim} and {second.embed_dim} dimensions"
    elif _differ(first.network.image_side, second.network.image_side):
        message = "different image towers"
    else:
        return
    raise UserError(f"{first.source} and {second.source} have {message}: use models of one feature space")


def _differ(first: Dict[str, nn.Module], second: Dict[str, nn.Module]) -> bool:
    """Whether a module that both have holds different weights."""
    return any(not _equal(first[name].state_dict(), second[name].state_dict()) for name in first.keys() & second.keys())


def _equal(mine: Dict[str, torch.Tensor], theirs: Dict[str, torch.Tensor]) -> bool:
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)
