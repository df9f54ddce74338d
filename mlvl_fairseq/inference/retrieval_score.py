"""Retrieval scores of an encoder on captions, each with the signature that says how it was computed."""

from typing import Dict, List, Sequence, Tuple

import numpy as np

from mlvl_fairseq.evaluation.query_ranks import QueryRanks
from mlvl_fairseq.evaluation.ranking import retrieval_ranks
from mlvl_fairseq.evaluation.retrieval import recalls, retrieval_scores
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
) -> Dict[str, object]:
    """Rank captions for images and images for captions.

    Args:
        encoder: encodes the captions.
        image_features: [images, embed_dim] in the encoder's space. image_names: their names.
        captions: n captions. image_rows: int [n], the image of each.
        lang, split: for the signature; a model with parameters of each language also takes those of `lang`.
        n_fold: average over this many contiguous parts of the images.

    Returns:
        ``txt_r1 ... img_r10 r_mean`` in % and ``signature``. Images without a caption take no part.
    """
    used, text_to_image = np.unique(image_rows, return_inverse=True)
    text = encoder.encode_texts(captions, lang)
    scores = retrieval_scores(image_features[used], text, text_to_image, n_fold=n_fold)
    names = [image_names[row] for row in used]
    return {**scores, "signature": _signature(encoder, names, captions, text_to_image, lang, split, n_fold)}


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
    used, text_to_image = np.unique(image_rows, return_inverse=True)
    text = encoder.encode_texts(captions, lang)
    ranks = QueryRanks(used, text_to_image, *retrieval_ranks(image_features[used], text, text_to_image, normalise=True))
    names = [image_names[row] for row in used]
    signature = _signature(encoder, names, captions, text_to_image, lang, split, n_fold=1)
    return {**recalls(ranks.image_ranks, ranks.text_ranks), "signature": signature}, ranks


def _signature(encoder: Encoder, names, captions, text_to_image, lang: str, split: str, n_fold: int) -> str:
    signature = Signature(
        data=data_fingerprint(names, captions, text_to_image),
        split=split,
        lang=lang,
        images=len(names),
        texts=len(captions),
        tok="clip-bpe",
        maxlen=encoder.max_length,
        precision="fp32",
        folds=n_fold,
    )
    return str(signature)
