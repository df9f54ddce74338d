"""Every vector is compared, by NumPy."""

from typing import List, Optional

import numpy as np

from mlvl_fairseq.search.engines.base import Engine, register_engine
from mlvl_fairseq.search.folder import Index

UNIT = 2.0**-24  # of float32


@register_engine("exact")
class ExactEngine(Engine):
    """Compares every vector: exact, in blocks of bounded memory.

    A float32 product may round by gamma_d |x||y| (Higham 2002, section 3.1). All rows that are less than twice that
    below the `k`-th best are candidates, so that the best by exact scores are among them.
    """

    about = "compared exactly, one by one"
    least = 0
    exact = True
    reads_all = True

    def __init__(self, index: Index, uri: Optional[str] = None):
        super().__init__(index)
        self.margin = 2 * 1.01 * (index.dim + 2) * UNIT  # vectors of length 1, and a little

    def candidates(self, queries: np.ndarray, k: int) -> List[np.ndarray]:
        return scan(self.index, queries, k, self.margin)


def scan(index: Index, queries: np.ndarray, k: int, margin: float, start: int = 0) -> List[np.ndarray]:
    """Live rows from `start` on whose float32 score is among the `k` best, or at most `margin` below them."""
    scores = np.full((len(queries), len(index) - start), -np.inf, np.float32)
    for first, block in index.blocks(start):
        here = slice(first - start, first - start + len(block))
        scores[:, here] = queries @ np.asarray(block, np.float32).T
    scores[:, ~index.live[start:]] = -np.inf
    return [start + _best(row, k, margin) for row in scores]


def _best(scores: np.ndarray, k: int, margin: float) -> np.ndarray:
    """Places of the `k` best scores and of those `margin` below, without those that are -inf."""
    if not len(scores):
        return np.empty(0, np.int64)
    place = max(len(scores) - k, 0)
    limit = np.partition(scores, place)[place] - np.float32(margin)
    return np.flatnonzero((scores >= limit) & (scores > -np.inf))
