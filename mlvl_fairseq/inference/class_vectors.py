"""Classes as vectors: the mean of a class's prompts (Radford et al. 2021, section 3.1.4)."""

from typing import Optional, Sequence

import numpy as np

from mlvl_fairseq.arrays import unit_rows
from mlvl_fairseq.data.classification.prompts import fill
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.inference.encoder import Encoder

TEXTS_AT_ONCE = 4096  # prompts whose vectors are in memory together


def class_vectors(
    encoder: Encoder, names: Sequence[str], templates: Sequence[str], lang: Optional[str] = None
) -> np.ndarray:
    """float32 [classes, embed_dim] of length 1: the mean of a class's prompts, each of length 1.

    Only a few thousand prompts are in memory at a time, so that templates cost time, not memory.

    Args:
        encoder: encodes the prompts. names: of the classes. templates: see
            :mod:`mlvl_fairseq.data.classification.prompts`. lang: their language.

    Raises:
        UserError: the model gives a class no direction (zero, NaN or infinity).
    """
    vectors = np.empty((len(names), encoder.embed_dim), np.float32)
    step = max(1, TEXTS_AT_ONCE // len(templates))
    for start in range(0, len(names), step):
        some = names[start : start + step]
        texts = [fill(template, name) for name in some for template in templates]
        each = unit_rows(encoder.encode_texts(texts, lang), np.float64).reshape(len(some), len(templates), -1)
        vectors[start : start + step] = unit_rows(each.mean(axis=1))
    bad = np.flatnonzero(~(np.abs(vectors).max(axis=1) > 0))  # NaN is not above 0 either
    if len(bad):
        raise UserError(f"{encoder.source}: no direction for {len(bad)} classes, such as {names[bad[0]]!r}; check it")
    return vectors
