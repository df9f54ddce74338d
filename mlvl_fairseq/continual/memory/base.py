"""The interface of memory selection."""

from typing import Dict, Tuple, Type

import numpy as np
from torch import Tensor

from mlvl_fairseq.registry import registering


class Selection:
    """Chooses which captions stay in a memory of `size` entries. Draws follow `seed` and what the memory has counted.

    Attributes:
        about: one line for ``--help``.
    """

    about = ""

    def __init__(self, size: int, seed: int):
        self.size, self.seed = size, seed

    def offer(self, memory, items: Tensor, labels: Tensor, seen: int) -> None:
        """One update's captions (int64 [B, 2], float [B, D]) have come after `seen` others: change
        ``memory.next_items`` and ``memory.next_labels`` in place or by new tensors."""

    def at_the_end(self, memory, task, model) -> Tuple[Tensor, Tensor]:
        """Items and labels that the next language replays, given the weights that have been handed over."""
        return memory.next_items, memory.next_labels

    def quotas(self, languages: int) -> np.ndarray:
        """int [languages]: the size shared out evenly, the remainder to the first ones."""
        return np.full(languages, self.size // languages) + (np.arange(languages) < self.size % languages)


SELECTIONS: Dict[str, Type[Selection]] = {}


def register_selection(name: str):
    return registering(SELECTIONS, "a way to choose", name)
