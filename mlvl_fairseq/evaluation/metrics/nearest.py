"""The best candidates of each query, exact, in blocks: neither all scores nor all candidates are held twice."""

from typing import NamedTuple

import numpy as np

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.evaluation.metrics.ranking import ScaledFeatures

QUERIES, CANDIDATES = 128, 8192  # at a time


class Nearest(NamedTuple):
    """Of each query its best candidates, best first.

    Attributes:
        indices: int64 [q, k]. scores: float64 [q, k].
    """

    indices: np.ndarray
    scores: np.ndarray


def nearest(queries, candidates, k: int, normalise: bool = True) -> Nearest:
    """The `k` best candidates of each query, or all where there are fewer; of equal scores the smaller index is first.

    Scores are exact on the grid of :mod:`~mlvl_fairseq.evaluation.metrics.ranking`: they do not depend on blocks or on
    the machine, and equal rows tie. Beside the results, memory holds a block of candidates and its scores with a block
    of queries.

    Args:
        queries: [q, d] array, memory map or tensor of finite numbers. candidates: [n, d], the same kinds.
        k: how many. normalise: cosine scores.

    Raises:
        UserError: shapes that do not fit, NaN or infinite features, or `k` below 1.
    """
    if k < 1:
        raise UserError(f"k must be at least 1, not {k}")
    queries = ScaledFeatures(queries, "queries", normalise)
    candidates = ScaledFeatures(candidates, "candidates", normalise)
    if queries.dim != candidates.dim:
        raise UserError(f"queries have {queries.dim} columns, candidates {candidates.dim}; use one model for both")
    return nearest_rows(queries, candidates, k)


def nearest_rows(queries: ScaledFeatures, candidates: ScaledFeatures, k: int) -> Nearest:
    """:func:`nearest`, of features that are read and known to fit."""
    k = min(k, len(candidates))
    best = Nearest(np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0)))
    for start in range(0, len(candidates), CANDIDATES):
        rows = np.arange(start, min(start + CANDIDATES, len(candidates)))
        block = candidates.on_grid(rows).astype(np.float64).T
        width = min(k, best.indices.shape[1] + len(rows))
        found = Nearest(np.empty((len(queries), width), np.int64), np.empty((len(queries), width)))
        for first in range(0, len(queries), QUERIES):
            own = slice(first, min(first + QUERIES, len(queries)))
            scores = queries.on_grid(np.arange(own.start, own.stop)).astype(np.float64) @ block
            indices = np.broadcast_to(rows, scores.shape)
            found.indices[own], found.scores[own] = _best(
                np.concatenate([best.indices[own], indices], axis=1),
                np.concatenate([best.scores[own], scores], axis=1),
                width,
            )
        best = found
    return best


def _best(indices: np.ndarray, scores: np.ndarray, k: int) -> Nearest:
    """The `k` best of each row; of equal scores the one that stands before the other."""
    limit = -np.partition(-scores, k - 1, axis=1)[:, k - 1 : k]
    above, ties = scores > limit, scores == limit
    kept = above | (ties & (np.cumsum(ties, axis=1) <= k - above.sum(axis=1, keepdims=True)))
    places = np.nonzero(kept)[1].reshape(len(scores), k)
    indices, scores = (np.take_along_axis(part, places, axis=1) for part in (indices, scores))
    order = np.argsort(-scores, axis=1, kind="stable")
    return Nearest(*(np.take_along_axis(part, order, axis=1) for part in (indices, scores)))
