"""Herding (Welling 2009; iCaRL, Rebuffi et al. 2017): captions whose mean feature follows that of their language."""

import numpy as np

from mlvl_fairseq.continual.memory.balanced import Balanced
from mlvl_fairseq.continual.memory.base import register_selection

CANDIDATES = 4  # times as many captions as are wanted are looked at


@register_selection("herding")
class Herding(Balanced):
    about = "of every language, the captions that together come closest to its mean feature"

    def choose(self, memory, task, model, number: int) -> np.ndarray:
        candidates = super().choose(memory, task, model, CANDIDATES * number)
        features = memory.student_features(task, model, candidates).double().cpu().numpy()
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        return candidates[herd(features, min(number, len(candidates)))]


def herd(features: np.ndarray, number: int) -> np.ndarray:
    """int64 [number]: rows of `features` [n, D], each the one that brings the mean of those taken closest to the mean
    of all (iCaRL, algorithm 4); ties go to the smaller row."""
    mean, total = features.mean(axis=0), np.zeros(features.shape[1])
    squares, free, chosen = (features**2).sum(axis=1), np.ones(len(features), bool), []
    for count in range(1, number + 1):
        # |mean - (total + f) / count|^2 without the terms that are the same for every f
        wanted = total - count * mean
        distances = np.where(free, squares + 2 * features @ wanted, np.inf)
        chosen.append(int(distances.argmin()))
        free[chosen[-1]] = False
        total += features[chosen[-1]]
    return np.array(chosen, dtype=np.int64)
