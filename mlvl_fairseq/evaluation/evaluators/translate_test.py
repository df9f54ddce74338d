"""Translate-test and fusion of a caption file with one or two models."""

from typing import Callable, Dict, List, Optional, Sequence

import numpy as np
import torch
from torch import nn

from mlvl_fairseq.data.captions.table import CaptionTable
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.evaluation.evaluators.fusion import ETAS, FUSIONS, fusion_scores, paired_translations
from mlvl_fairseq.evaluation.evaluators.retrieval import signature_of
from mlvl_fairseq.inference.encoder import Encoder

ENGLISH = "en"


def translate_test(
    encoder: Encoder,
    english_encoder: Encoder,
    foreign: CaptionTable,
    english: Optional[CaptionTable],
    encode_images: Callable[[List[str]], np.ndarray],
    lang: str,
    split: str = "test",
    fusions: Sequence[str] = tuple(FUSIONS),
    etas: Sequence[float] = ETAS,
    n_fold: int = 1,
) -> Dict[str, object]:
    """Score translations, captions, and their fusions.

    Args:
        encoder: encodes the captions. english_encoder: encodes their translations; both share one feature space.
        foreign: the captions. english: their translations; None: the English sentences of the same file.
        encode_images: names -> features [names, embed_dim] in that space.
        lang, split: for the signature.
        fusions, etas, n_fold: see :func:`fusion_scores`.

    Returns:
        ``scores``: rows of :func:`fusion_scores`; ``signature``.

    Raises:
        UserError: no translations, or models of different spaces.
        DataError: captions and translations differ in number.
    """
    require_one_space(encoder, english_encoder)
    if english is None and foreign.english is None:
        raise UserError(f"{foreign.path} has no English sentences: give the translations with --english-captions")
    translations = foreign.english if english is None else paired_translations(foreign, english)
    rows = fusion_scores(
        encode_images(foreign.images),
        english_encoder.encode_texts(translations, ENGLISH, progress="translations"),
        encoder.encode_texts(foreign.captions, lang, progress="captions"),
        foreign.image_rows,
        fusions,
        etas,
        n_fold,
    )
    pairs = [f"{caption}\n{translation}" for caption, translation in zip(foreign.captions, translations)]
    signature = signature_of(encoder, foreign.images, pairs, foreign.image_rows, f"{lang}+{ENGLISH}", split, n_fold)
    return {"scores": rows, "signature": signature}


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
