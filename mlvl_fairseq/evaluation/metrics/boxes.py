"""How well boxes are found: intersection over union, as in visual grounding (Yu et al. 2016)."""

from typing import Dict

import numpy as np

METRICS = ("iou", "above_50")


def intersection_over_union(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """[n] of two times n boxes [n, 4] of centre x, centre y, width and height; 0 where neither has an area."""
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    low = np.maximum(one[:, :2] - one[:, 2:] / 2, other[:, :2] - other[:, 2:] / 2)
    high = np.minimum(one[:, :2] + one[:, 2:] / 2, other[:, :2] + other[:, 2:] / 2)
    shared = np.clip(high - low, 0, None).prod(1)
    union = one[:, 2:].prod(1) + other[:, 2:].prod(1) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def box_scores(found: np.ndarray, true: np.ndarray) -> Dict[str, float]:
    """``iou``: the mean; ``above_50``: the share of boxes for which it is more than a half; both in %.

    Args:
        found, true: [n, 4], see :func:`intersection_over_union`.
    """
    overlap = intersection_over_union(found, true)
    return {"iou": 100.0 * float(overlap.mean()), "above_50": 100.0 * float((overlap > 0.5).mean())}
