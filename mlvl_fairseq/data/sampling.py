"""Which captions of several languages, or sentence pairs of several directions, make up an epoch.

Draws of captions follow numpy's global seed, which fairseq sets anew from its seed and the epoch, or a seed and the
epoch themselves: a restarted epoch is the same one.
"""

from typing import List, Sequence

import numpy as np

from mlvl_fairseq.errors import UserError


def sampling_shares(sizes: Sequence[int], temperature: float) -> np.ndarray:
    """Share of each language, in proportion to ``size ** (1 / temperature)``: 1 keeps sizes, large ones level them."""
    weights = (np.asarray(sizes, np.float64) / sum(sizes)) ** (1 / temperature)
    return weights / weights.sum()


def apportion(total: int, shares: np.ndarray) -> np.ndarray:
    """int64 parts of `total` by largest remainder; no part is 0, for which the sum may exceed `total`."""
    exact = total * shares
    parts = np.floor(exact).astype(np.int64)
    most_left = np.argsort(parts - exact, kind="stable")
    parts[most_left[: total - parts.sum()]] += 1
    return np.maximum(parts, 1)


def mixed_epoch(sizes: Sequence[int], temperature: float) -> np.ndarray:
    """As many captions as there are, of all languages in one random order.

    Args:
        sizes: captions of each language; they are numbered one language after the other.
        temperature: see :func:`sampling_shares`; with 1, every caption comes once.
    """
    counts = apportion(sum(sizes), sampling_shares(sizes, temperature))
    return np.random.permutation(np.concatenate([_draw(*part) for part in zip(_starts(sizes), sizes, counts)]))


def one_language_epoch(sizes: Sequence[int], temperature: float, batch: int) -> np.ndarray:
    """As :func:`mixed_epoch`, in batches of `batch` captions of one language each, in random order."""
    batches = apportion(max(1, sum(sizes) // batch), sampling_shares(sizes, temperature))
    drawn = [_draw(start, size, n * batch) for start, size, n in zip(_starts(sizes), sizes, batches)]
    return np.random.permutation(np.concatenate(drawn).reshape(-1, batch)).reshape(-1)


def alternating_steps(sizes: Sequence[int], batch: int) -> int:
    """Batches that each of several data sets gives to an epoch: as many as the smallest has whole ones.

    Raises:
        UserError: it has none.
    """
    if min(sizes) < batch:
        raise UserError(f"a data set has {min(sizes):,} captions, less than a batch of {batch:,}: make batches smaller")
    return min(sizes) // batch


def alternating_epoch(sizes: Sequence[int], batch: int, epoch: int, seed: int) -> List[np.ndarray]:
    """Which captions of each data set make up an epoch: ``alternating_steps`` batches of each (Yang et al. 2024).

    A larger set goes on in the next epoch where it was: none of its captions comes again before all have come.

    Args:
        sizes: captions of each set. batch: captions a batch. epoch: from 1. seed: of the run.

    Returns:
        for each set int64 [steps, batch], captions of that set, numbered from 0.
    """
    steps = alternating_steps(sizes, batch)
    places = (epoch - 1) * steps * batch + np.arange(steps * batch)
    return [of_rounds(size, places, [seed, number]).reshape(steps, batch) for number, size in enumerate(sizes)]


def of_rounds(size: int, places: np.ndarray, seed: List[int]) -> np.ndarray:
    """What is at these places of an endless row of permutations of `size` captions."""
    rounds, offsets = np.divmod(places, size)
    orders = {number: np.random.default_rng([*seed, number]).permutation(size) for number in np.unique(rounds)}
    found = [orders[number][offsets[rounds == number]] for number in orders]
    return np.concatenate(found) if found else offsets


def _starts(sizes: Sequence[int]) -> np.ndarray:
    return np.cumsum([0, *sizes[:-1]])


def _draw(start: int, size: int, count: int) -> np.ndarray:
    """`count` of the captions ``start ... start + size - 1``; none comes again before all have come."""
    rounds = [np.random.permutation(size) for _ in range(-(-int(count) // size))]
    return start + np.concatenate(rounds)[:count]


class DirectionSampler:
    """Draws the pairs of a virtual epoch: direction d gets a share proportional to ``(n_d / sum n) ** (1 / T)``.

    What is drawn depends on seed and epoch alone. Within an epoch no pair comes more than one time oftener than
    another one of its direction.

    Args:
        sizes: pairs of each direction.
        temperature: T; 1 keeps the proportions, a large one evens them out (the recipe of Chen et al. 2023 has 5).
        epoch_size: pairs of an epoch; 0: as many as there are.
        seed: of the run.

    Raises:
        UserError: a temperature that is not positive, or a negative size.
    """

    def __init__(self, sizes: Sequence[int], temperature: float, epoch_size: int = 0, seed: int = 1):
        if temperature <= 0:
            raise UserError(f"--sampling-temperature {temperature} is not positive")
        if epoch_size < 0:
            raise UserError(f"--virtual-epoch-size {epoch_size} is no number of pairs; 0: as many as there are")
        self.sizes, self.seed = list(sizes), seed
        shares = sampling_shares(self.sizes, temperature)
        self.counts = apportion(epoch_size or sum(self.sizes), shares).tolist()

    def draw(self, epoch: int) -> List[np.ndarray]:
        """For each direction the pairs of this epoch, in random order: int64 [count]."""
        rng = np.random.default_rng([self.seed, epoch])
        return [_draw_pairs(size, count, rng) for size, count in zip(self.sizes, self.counts)]


def _draw_pairs(size: int, count: int, rng: np.random.Generator) -> np.ndarray:
    whole = np.repeat(np.arange(size), count // size)
    return rng.permutation(np.concatenate([whole, rng.permutation(size)[: count % size]]))
