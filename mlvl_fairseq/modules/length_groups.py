"""Texts of like length go together: time follows the positions computed, and half of a random batch is padding.

How many groups there are is weighed: each is another call, and each saves padding. A call costs about as much as some
matrix products, which are many positions of a narrow tower and few of a wide one.
"""

from typing import List, Tuple

import numpy as np

CALL = 4e6  # floating-point operations that a CPU core does in the time that one more call of attention takes


def positions_a_call(width: int) -> float:
    """What one more call of attention costs, in positions of a layer of this width, 24 width^2 operations each."""
    return CALL / (24 * width**2)


def cheapest_groups(lengths: np.ndarray, call: float) -> List[Tuple[int, int]]:
    """The groups with the least cost: positions, padding included, and `call` for each group.

    Args:
        lengths: int64 [B], of texts, ascending. call: of one group, in positions.

    Returns:
        ``(texts, positions of each)`` of every group, in order.
    """
    distinct, counts = np.unique(lengths, return_counts=True)
    texts = np.concatenate([[0], counts.cumsum()])
    least, begin = np.zeros(len(distinct) + 1), np.zeros(len(distinct) + 1, np.int64)
    for end, length in enumerate(distinct, 1):  # the cheapest way up to here, by where its last group begins
        costs = least[:end] + length * (texts[end] - texts[:end]) + call
        begin[end] = costs.argmin()
        least[end] = costs[begin[end]]
    groups, end = [], len(distinct)
    while end:
        groups.append((int(texts[end] - texts[begin[end]]), int(distinct[end - 1])))
        end = begin[end]
    return groups[::-1]
