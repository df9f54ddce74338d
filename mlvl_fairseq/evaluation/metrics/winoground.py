"""Winoground's scores (Thrush et al. 2022, equations 1 to 3): are two captions and two pictures matched both ways?"""

from typing import Dict

import numpy as np

from mlvl_fairseq.arrays import unit_rows

METRICS = ("text", "image", "group")


def winoground_scores(image_features: np.ndarray, text_features: np.ndarray) -> Dict[str, float]:
    """Shares of examples in %. ``text``: each picture is nearer to its own caption than to the other one; ``image``:
    each caption is nearer to its own picture; ``group``: both. Equal scores are wrong. Chance is 25, 25 and 16.7.

    Args:
        image_features, text_features: [examples, 2, d], of any length: they are compared by their cosine.
    """
    images, texts = (unit_rows(features, np.float64) for features in (image_features, text_features))
    scores = (texts[:, :, None] * images[:, None]).sum(-1)  # [examples, caption, picture]; equal rows give equal sums
    own = np.stack([scores[:, 0, 0], scores[:, 1, 1]], axis=1)
    other_caption = np.stack([scores[:, 1, 0], scores[:, 0, 1]], axis=1)
    text, image = (own > other_caption).all(1), (own > other_caption[:, ::-1]).all(1)
    return {name: 100.0 * float(np.mean(right)) for name, right in zip(METRICS, (text, image, text & image))}
