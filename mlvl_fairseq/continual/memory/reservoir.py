"""Reservoir sampling (Vitter 1985): after n captions each of them is in memory with the same probability."""

import random
from typing import Callable, List, Optional

import torch
from torch import Tensor

from mlvl_fairseq.continual.memory.base import Selection, register_selection


def reservoir_slots(count: int, seen: int, size: int, randint: Callable[[int, int], int]) -> List[Optional[int]]:
    """The place of each of `count` captions in a memory of `size`, None: not taken.

    Args:
        seen: captions offered before these.
        randint: ``randint(a, b)`` draws from a..b, both included.
    """
    slots: List[Optional[int]] = []
    for number in range(seen, seen + count):
        slot = number if number < size else randint(0, number)
        slots.append(slot if slot < size else None)
    return slots


@register_selection("reservoir")
class Reservoir(Selection):
    about = "an even sample of all captions seen so far"

    def offer(self, memory, items: Tensor, labels: Tensor, seen: int) -> None:
        generator = random.Random(f"{self.seed}/{seen}")
        slots = reservoir_slots(len(items), seen, self.size, generator.randint)
        room = min(self.size, seen + len(items)) - len(memory.next_items)
        if room > 0:
            memory.next_items = torch.cat([memory.next_items, items.new_zeros(room, 2)])
            memory.next_labels = torch.cat([memory.next_labels, labels.new_zeros(room, labels.shape[1])])
        row_of = {slot: row for row, slot in enumerate(slots) if slot is not None}  # the last one stays
        if row_of:
            into, rows = torch.tensor([[*row_of], [*row_of.values()]]).to(items.device, non_blocking=True)
            memory.next_items[into], memory.next_labels[into] = items[rows], labels[rows]
