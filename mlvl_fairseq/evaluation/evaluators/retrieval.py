"""Retrieval scores of an encoder on captions, each with the signature that says how it was computed."""

from typing import Dict, List, NamedTuple, Sequence, Tuple

import numpy as np

from mlvl_fairseq.evaluation.metrics.query_ranks import QueryRanks
from mlvl_fairseq.evaluation.metrics.ranking import retrieval_ranks
from mlvl_fairseq.evaluation.metrics.retrieval import CONVENTIONS, recalls, retrieval_scores
from mlvl_fairseq.evaluation.signature import Signature, data_fingerprint
from mlvl_fairseq.inference.encoder import Encoder


def score_retrieval(
    encoder: Encoder,
    image_features: np.ndarray,
    image_names: Sequence[str],
    captions: List[str],
    image_rows: np.ndarray,
    lang: str,
    split: str,
    n_fold: int = 1,
    recall: str = "standard",
) -> Dict[str, object]:
    """Rank captions for images and images for captions.

    Args:
        encoder: encodes the captions.
        image_features: [images, embed_dim] in the encoder's space. image_names: their names.
        captions: n captions. image_rows: int [n], the image of each.
        lang, split: for the signature; a model with parameters of each language also takes those of `lang`.
        n_fold: average over this many contiguous parts of the images.
        recall: how it is counted, see :data:`mlvl_fairseq.evaluation.metrics.retrieval.CONVENTIONS`.

    Returns:
        ``txt_r1 ... img_r10 r_mean`` in % and ``signature``. Images without a caption take no part.
    """
    test = _encode(encoder, image_features, image_names, captions, image_rows, lang)
    scores = retrieval_scores(test.images, test.texts, test.text_to_image, n_fold=n_fold, recall=recall)
    signature = signature_of(encoder, test.image_names, captions, test.text_to_image, lang, split, n_fold, recall)
    return {**scores, "signature": signature}


def rank_retrieval(
    encoder: Encoder,
    image_features: np.ndarray,
    image_names: Sequence[str],
    captions: List[str],
    image_rows: np.ndarray,
    lang: str,
    split: str,
) -> Tuple[Dict[str, object], QueryRanks]:
    """What :func:`score_retrieval` returns without folds, and the rank of every query behind it."""
    test = _encode(encoder, image_features, image_names, captions, image_rows, lang)
    ranks = retrieval_ranks(test.images, test.texts, test.text_to_image, normalise=True)
    signature = signature_of(encoder, test.image_names, captions, test.text_to_image, lang, split)
    return {**recalls(*ranks), "signature": signature}, QueryRanks(test.used, test.text_to_image, *ranks)


class _Test(NamedTuple):
    """A retrieval test whose images all have captions: int [n] `used`, their rows among the given images; features
    [n, D] and names of the images; features [m, D] of the captions; int [m] the image of each."""

    used: np.ndarray
    images: np.ndarray
    image_names: List[str]
    texts: np.ndarray
    text_to_image: np.ndarray


def _encode(encoder: Encoder, image_features, image_names, captions: List[str], image_rows, lang: str) -> _Test:
    used, text_to_image = np.unique(image_rows, return_inverse=True)
    names = [image_names[row] for row in used]
    return _Test(used, image_features[used], names, encoder.encode_texts(captions, lang), text_to_image)


def signature_of(
    encoder: Encoder,
    image_names: Sequence[str],
    texts: Sequence[str],
    text_to_image,
    lang: str,
    split: str,
    n_fold: int = 1,
    recall: str = "standard",
) -> str:
    """How scores of an encoder are computed; arguments as in :func:`score_retrieval`, all images with texts."""
    signature = Signature(
        data=data_fingerprint(image_names, texts, text_to_image),
        split=split,
        lang=lang,
        images=len(image_names),
        texts=len(texts),
        tok=encoder.tokenizer.name,
        maxlen=encoder.max_length,
        precision="fp32",
        folds=n_fold,
        captions=CONVENTIONS[recall].captions,
    )
    return str(signature)
