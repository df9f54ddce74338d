"""Every vector is compared, by NumPy."""

import threading
from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import Iterator, List, Optional, Tuple

import numpy as np

from mlvl_fairseq.search.engines.base import Engine, register_engine
from mlvl_fairseq.search.folder import Index, as_float32

UNIT = 2.0**-24  # of float32
STEP = 8192  # vectors at a time


@register_engine("exact")
class ExactEngine(Engine):
    """Compares every vector: exact, in blocks of bounded memory.

    A float32 product may round by gamma_d |x||y| (Higham 2002, section 3.1). All rows that are less than twice that
    below the `k`-th best are candidates, so that the best by exact scores are among them. What several threads
    ask while one is at work is compared in one pass: reading and converting vectors is most of it.
    """

    about = "compared exactly, one by one"
    least = 0
    exact = True
    reads_all = True

    def __init__(self, index: Index, uri: Optional[str] = None):
        super().__init__(index)
        self._one_at_a_time, self._waiting = threading.Lock(), deque()

    def candidates(self, queries: np.ndarray, k: int) -> List[np.ndarray]:
        own = _Asked(queries, k)
        self._waiting.append(own)
        with self._one_at_a_time:
            if own.found is None:
                self._answer([self._waiting.popleft() for _ in range(len(self._waiting))] or [own])
        return own.found

    def _answer(self, together: List["_Asked"]) -> None:
        queries, k = np.concatenate([one.queries for one in together]), max(one.k for one in together)
        found = iter(scan(self.index, queries, k, margin_of(self.index.dim)))
        for one in together:
            one.found = list(islice(found, len(one.queries)))


@dataclass
class _Asked:
    queries: np.ndarray
    k: int
    found: Optional[List[np.ndarray]] = None


def margin_of(dim: int) -> float:
    """How much the float32 scores of two vectors of length 1 (and a little) differ at most although they are equal."""
    return 2 * 1.01 * (dim + 2) * UNIT


def scan(index: Index, queries: np.ndarray, k: int, margin: float, start: int = 0) -> List[np.ndarray]:
    """Live rows from `start` on whose float32 score is among the `k` best, or at most `margin` below them."""
    kept = [(np.empty(0, np.float32), np.empty(0, np.int64))] * len(queries)
    for rows, block in _float32(index, start):
        live = index.live[rows]
        scores = queries @ block.T
        scores, rows = (scores, rows) if live.all() else (scores[:, live], rows[live])
        for number, own in enumerate(scores):
            kept[number] = _best(np.append(kept[number][0], own), np.append(kept[number][1], rows), k, margin)
    return [rows for _, rows in kept]


def _float32(index: Index, start: int) -> Iterator[Tuple[np.ndarray, np.ndarray]]:
    """(rows [b], float32 [b, d]); half precision is converted into one piece of memory that is used again: fresh
    memory would cost three times the conversion."""
    buffer = np.empty((STEP, index.dim), np.float32)
    for rows, block in index.blocks(start):
        for own in range(0, len(block), STEP):
            part = block[own : own + STEP]
            yield rows[own : own + STEP], part if part.dtype == np.float32 else as_float32(part, buffer)


def _best(scores: np.ndarray, rows: np.ndarray, k: int, margin: float) -> Tuple[np.ndarray, np.ndarray]:
    """Those of the `k` best scores, and of scores at most `margin` below."""
    if len(scores) <= k:
        return scores, rows
    near = scores >= np.partition(scores, len(scores) - k)[len(scores) - k] - np.float32(margin)
    return scores[near], rows[near]
