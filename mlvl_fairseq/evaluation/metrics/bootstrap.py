"""Is one method better than another, or were the test images kind to it? A paired bootstrap over images.

Images are drawn with replacement, their captions with them (a cluster: captions of one photo are not independent), and
the difference of the two methods is computed on each draw (Koehn, EMNLP 2004). Languages that are tested on the same
images get the same draw, because an image that is hard in one language is hard in the others.
"""

from dataclasses import dataclass
from typing import Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.evaluation.metrics.query_ranks import QueryRanks
from mlvl_fairseq.evaluation.metrics.ranking import NO_RANK
from mlvl_fairseq.evaluation.metrics.retrieval import METRICS, RECALL_AT

Pairs = Sequence[Sequence[Tuple[QueryRanks, QueryRanks]]]

_DRAWS_AT_ONCE = 128  # bounds memory: 128 x 5,000 images are 5 MB


@dataclass(frozen=True)
class Difference:
    """First minus second method.

    Attributes:
        observed: on the test set as it is.
        draws: [resamples] on every resampled test set.
    """

    observed: float
    draws: np.ndarray

    def interval(self, confidence: float = 0.95) -> Tuple[float, float]:
        """Percentile interval."""
        tail = 50 * (1 - confidence)
        low, high = np.percentile(self.draws, [tail, 100 - tail])
        return float(low), float(high)

    @property
    def p_value(self) -> float:
        """Two-sided: how often a draw strays from the mean draw by as much as the observed difference is from 0.

        Riezler and Maxwell (2005), as in sacreBLEU; one is added to both counts, so that it is never 0.
        """
        strays = np.abs(self.draws - self.draws.mean()) >= abs(self.observed)
        return float((strays.sum() + 1) / (len(self.draws) + 1))


def paired_bootstrap(
    pairs: Pairs, resamples: int = 1000, seed: int = 0, by_text: bool = False, draw_seeds: bool = False
) -> Dict[str, Difference]:
    """The difference of the average score over languages (AA of the final models), metric by metric.

    The differences of several seeds are averaged within each draw: what varies is the test set, not the training,
    unless `draw_seeds`.

    Args:
        pairs: for each language, for each seed of training: (ranks of the first method, ranks of the second).
        resamples: number of draws.
        seed: of the draws.
        draw_seeds: draw as many seeds of training as there are, with replacement, too.
        by_text: an image is a query once for each of its captions
            (:class:`mlvl_fairseq.evaluation.metrics.retrieval.Convention`).

    Returns:
        metric -> difference in percentage points.

    Raises:
        UserError: fewer than one draw, or pairs of different images or captions.
    """
    languages = [_Gains.of(language, by_text) for language in pairs]
    totals = _totals(languages, _recalls, len(METRICS), resamples, seed, draw_seeds)
    return {metric: Difference(float(column[0]), column[1:]) for metric, column in zip(METRICS, totals.T)}


def paired_accuracy_bootstrap(
    pairs: Pairs, tops: Sequence[int], resamples: int = 1000, seed: int = 0, draw_seeds: bool = False
) -> Dict[str, Difference]:
    """The same for classification: the difference of top-k accuracy, ``top1`` for k = 1.

    Args:
        pairs: as above; of the ranks, those of the texts count, of which an image has one, its class, or several: they
            are drawn with it. tops: every k.
    """
    languages = [_Gains.of_classes(language, tops) for language in pairs]
    totals = _totals(languages, _accuracies, len(tops), resamples, seed, draw_seeds)
    return {f"top{k}": Difference(float(column[0]), column[1:]) for k, column in zip(tops, totals.T)}


def _totals(
    languages: Sequence["_Gains"], scores: Callable, columns: int, resamples: int, seed: int, draw_seeds: bool
) -> np.ndarray:
    """[1 + resamples, columns]: the mean over languages of what `scores` makes of hits and queries; row 0 is the test
    set and the seeds as they are."""
    if resamples < 1:
        raise UserError(f"a bootstrap needs at least one resample, not {resamples}")
    totals, rng = np.zeros((1 + resamples, columns)), np.random.default_rng(seed)
    weights = _seed_weights(len(languages[0].hits), resamples, seed if draw_seeds else None)
    for group in _by_images(languages):
        for rows, counts in _draws(len(group[0].images), resamples, rng):
            for gains in group:
                by_seed = (counts @ gains.columns).reshape(len(counts), len(gains.hits), -1)
                hits = np.einsum("ds,dsk->dk", weights[rows], by_seed)
                totals[rows] += scores(hits, counts @ gains.queries)
    return totals / len(languages)


def _seed_weights(count: int, resamples: int, seed: Optional[int]) -> np.ndarray:
    """[1 + resamples, count]: the part of each seed of training in each draw; the same unless seeds are drawn."""
    weights = np.full((1 + resamples, count), 1 / count)
    if seed is not None:
        weights[1:] = np.random.default_rng([seed, count]).multinomial(count, weights[0], size=resamples) / count
    return weights


def _recalls(hits: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """[draws, metrics] of retrieval."""
    recalls = 100 * hits / np.repeat(queries, len(RECALL_AT), axis=1)
    return np.concatenate([recalls, recalls.mean(axis=1, keepdims=True)], axis=1)


def _accuracies(hits: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """[draws, tops] of classification."""
    return 100 * hits / queries[:, 1:]


@dataclass(frozen=True)
class _Gains:
    """One language: per image, hits that the first method has more than the second, and queries.

    Attributes:
        images: [n] as in :class:`QueryRanks`.
        hits: [seeds, n, 6] differences at every recall (of classification [seeds, n, tops]).
        queries: [n, 2] how often the image itself is a query, its captions.
    """

    images: np.ndarray
    hits: np.ndarray
    queries: np.ndarray

    @property
    def columns(self) -> np.ndarray:
        """`hits` as a matrix, [n, seeds * 6]."""
        return self.hits.swapaxes(0, 1).reshape(len(self.images), -1)

    @classmethod
    def of(cls, seeds: Sequence[Tuple[QueryRanks, QueryRanks]], by_text: bool) -> "_Gains":
        example = seeds[0][0]
        if not all(example.same_queries(ranks) for pair in seeds for ranks in pair):
            raise UserError("cannot compare query by query: the models were tested on different images or captions")
        hits = np.stack([_hits(first) - _hits(second) for first, second in seeds])
        texts = np.bincount(example.text_to_image, minlength=len(example.images))
        times = texts if by_text else example.image_ranks != NO_RANK
        hits[:, :, : len(RECALL_AT)] *= texts[:, None] if by_text else 1
        return cls(example.images, hits, np.stack([times, texts], axis=1).astype(float))

    @classmethod
    def of_classes(cls, seeds: Sequence[Tuple[QueryRanks, QueryRanks]], tops: Sequence[int]) -> "_Gains":
        example = seeds[0][0]
        if not all(example.same_queries(ranks) for pair in seeds for ranks in pair):
            raise UserError("cannot compare image by image: the models were tested on different images")
        found = [[ranks.text_ranks[:, None] < np.asarray(tops) for ranks in pair] for pair in seeds]
        each = np.stack([first.astype(float) - second for first, second in found])
        hits, texts = np.zeros((len(seeds), len(example.images), len(tops))), np.bincount(example.text_to_image)
        np.add.at(hits, (slice(None), example.text_to_image), each)
        return cls(example.images, hits, np.stack([texts, texts], axis=1).astype(float))


def _hits(ranks: QueryRanks) -> np.ndarray:
    """[n, 6] per image: is it found (0 or 1), and how many of its captions find it, at every k."""
    columns = [(ranks.image_ranks != NO_RANK) & (ranks.image_ranks < k) for k in RECALL_AT]
    columns += [
        np.bincount(ranks.text_to_image, weights=ranks.text_ranks < k, minlength=len(ranks.images)) for k in RECALL_AT
    ]
    return np.stack(columns, axis=1).astype(float)


def _by_images(languages: Sequence[_Gains]) -> List[List[_Gains]]:
    """Languages that share their test images, together."""
    groups: Dict[bytes, List[_Gains]] = {}
    for language in languages:
        groups.setdefault(language.images.tobytes(), []).append(language)
    return list(groups.values())


def _draws(size: int, resamples: int, rng: np.random.Generator) -> Iterator[Tuple[slice, np.ndarray]]:
    """(rows of the result, [rows, size] how often each image was drawn); row 0 is the test set as it is."""
    yield slice(0, 1), np.ones((1, size))
    for start in range(1, resamples + 1, _DRAWS_AT_ONCE):
        rows = slice(start, min(start + _DRAWS_AT_ONCE, resamples + 1))
        count = rows.stop - rows.start
        drawn = rng.integers(size, size=(count, size)) + size * np.arange(count)[:, None]
        yield rows, np.bincount(drawn.ravel(), minlength=count * size).reshape(count, size).astype(float)
