"""Metrics of learning languages one after another, from the scores of every model on every language so far.

``A[i][j]`` is the score on language j after learning language i >= j, both counted in the order of learning (Yang et
al. 2024, section 5.1). A score that is missing makes every value that depends on it missing; it is never 0.
"""

from dataclasses import dataclass
from typing import Callable, Dict, List, Optional, Sequence

import numpy as np

from mlvl_fairseq.errors import UserError

ENGLISH = "en"
Baseline = Callable[[np.ndarray, int, int], float]


@dataclass(frozen=True)
class Forgetting:
    """A definition of forgetting: what an earlier score on a language was, minus the score now.

    Attributes:
        about: the definition in words.
        baseline: ``baseline(matrix, step, j)``, the earlier score on j that the score after `step` is compared with.
    """

    about: str
    baseline: Baseline


FORGETTING: Dict[str, Forgetting] = {}


def register_forgetting(name: str, about: str) -> Callable[[Baseline], Baseline]:
    """Register a baseline as a definition of forgetting."""

    def register(baseline: Baseline) -> Baseline:
        FORGETTING[name] = Forgetting(about, baseline)
        return baseline

    return register


@register_forgetting("reference", "best score of all earlier models minus the score now")
def best_earlier(matrix: np.ndarray, step: int, j: int) -> float:
    """As in the reference code of CLL-CLIP: what later languages had added can be lost, too."""
    return matrix[j:step, j].max()


@register_forgetting("avalanche", "score right after learning the language minus the score now")
def right_after_learning(matrix: np.ndarray, step: int, j: int) -> float:
    """As in avalanche: the negative of backward transfer."""
    return matrix[j, j]


class ScoreMatrix:
    """Scores of every model on every language so far, for several metrics.

    Attributes:
        languages: in the order of learning.
        scores: metric -> float64 [n, n], model after language i x language j; NaN is missing.
    """

    def __init__(self, languages: Sequence[str], metrics: Sequence[str]):
        if not languages or len(set(languages)) < len(languages):
            raise UserError(f"a score matrix needs different languages, not {list(languages)}")
        self.languages = list(languages)
        self.scores = {metric: np.full((len(self.languages),) * 2, np.nan) for metric in metrics}

    def __getitem__(self, metric: str) -> np.ndarray:
        return self.scores[metric]

    def set(self, step: int, j: int, values: Dict[str, float]) -> None:
        """Enter the scores on language j after learning language `step`, metric -> value."""
        if not 0 <= j <= step < len(self.languages):
            raise UserError(f"no model after language {step} is evaluated on language {j} of {len(self.languages)}")
        for metric, matrix in self.scores.items():
            matrix[step, j] = values[metric]


@dataclass(frozen=True)
class ContinualMetrics:
    """Per step i, NaN where undefined or missing; the last element is the value of the final model.

    Attributes:
        AA: [n] average score on the languages learned so far.
        F: [n] average forgetting of the languages learned before, undefined at step 0; negative is a gain.
        Fen: [n] forgetting of English: NaN until a language is learned after it, and where it is not learned.
    """

    AA: np.ndarray
    F: np.ndarray
    Fen: np.ndarray


def place_of_english(languages: Sequence[str]) -> Optional[int]:
    """Where English is in the order of learning; None: it is not learned."""
    return list(languages).index(ENGLISH) if ENGLISH in languages else None


def continual_metrics(
    matrix: np.ndarray, forgetting: str = "reference", english: Optional[int] = 0
) -> ContinualMetrics:
    """AA, F and Fen after every language.

    Args:
        matrix: [n, n], what lies above the diagonal is ignored; NaN is missing.
        forgetting: name in :data:`FORGETTING`.
        english: see :func:`place_of_english`; the published orders begin with it.

    Raises:
        UserError: unknown definition of forgetting.
    """
    if forgetting not in FORGETTING:
        raise UserError(f"unknown definition of forgetting {forgetting!r}; there are: {', '.join(FORGETTING)}")
    matrix = np.array(matrix, dtype=np.float64)
    size, baseline = len(matrix), FORGETTING[forgetting].baseline
    average = np.array([matrix[step, : step + 1].mean() for step in range(size)])
    lost = np.full((size, size), np.nan)
    for step in range(1, size):
        lost[step, :step] = [baseline(matrix, step, j) - matrix[step, j] for j in range(step)]
    mean_lost = np.array([np.nan, *(lost[step, :step].mean() for step in range(1, size))])
    of_english = np.full(size, np.nan) if english is None else lost[:, english]
    return ContinualMetrics(AA=average, F=mean_lost, Fen=of_english)


def optional(values: Sequence[float]) -> List[Optional[float]]:
    """Floats for JSON, which has no NaN: None instead."""
    return [None if np.isnan(value) else float(value) for value in values]
