"""How many sentence pairs of which direction an epoch has, and which ones."""

from typing import List, Sequence

import numpy as np

from mlvl_fairseq.data.language_sampling import apportion, sampling_shares
from mlvl_fairseq.errors import UserError


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
        return [_draw(size, count, rng) for size, count in zip(self.sizes, self.counts)]


def _draw(size: int, count: int, rng: np.random.Generator) -> np.ndarray:
    whole = np.repeat(np.arange(size), count // size)
    return rng.permutation(np.concatenate([whole, rng.permutation(size)[: count % size]]))
