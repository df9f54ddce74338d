"""Every vector is compared, by NumPy."""

import threading
from typing import List, Optional, Tuple

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
        self._one_at_a_time = threading.Lock()  # several are no faster, and hold as many blocks

    def candidates(self, queries: np.ndarray, k: int) -> List[np.ndarray]:
        with self._one_at_a_time:
            return scan(self.index, queries, k, margin_of(self.index.dim))


def margin_of(dim: int) -> float:
    """How much the float32 scores of two vectors of length 1 (and a little) differ at most although they are equal."""
    return 2 * 1.01 * (dim + 2) * UNIT


def scan(index: Index, queries: np.ndarray, k: int, margin: float, start: int = 0) -> List[np.ndarray]:
    """Live rows from `start` on whose float32 score is among the `k` best, or at most `margin` below them."""
    kept = [(np.empty(0, np.float32), np.empty(0, np.int64))] * len(queries)
    for first, block in index.blocks(start):
        live = np.flatnonzero(index.live[first : first + len(block)])
        if len(live) < len(block):
            block = block[live]
        scores = queries @ np.asarray(block, np.float32).T
        for number, own in enumerate(scores):
            kept[number] = _best(np.append(kept[number][0], own), np.append(kept[number][1], first + live), k, margin)
    return [rows for _, rows in kept]


def _best(scores: np.ndarray, rows: np.ndarray, k: int, margin: float) -> Tuple[np.ndarray, np.ndarray]:
    """Those of the `k` best scores, and of scores at most `margin` below."""
    if len(scores) <= k:
        return scores, rows
    near = scores >= np.partition(scores, len(scores) - k)[len(scores) - k] - np.float32(margin)
    return scores[near], rows[near]
