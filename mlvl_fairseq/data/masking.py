"""Which tokens of a text are masked, and by what: masked language modelling as CCLM does it (Zeng et al. 2023, section
3.2), with short spans among the single tokens.

A pure function of a generator of random numbers and a text: the same seed gives the same masks.
"""

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from typing import FrozenSet, List, NamedTuple, Sequence, Tuple

import numpy as np

from mlvl_fairseq.errors import UserError

MASKED, RANDOM = 0.8, 0.1  # shares of the chosen tokens that a mask replaces, or some token; the others stay


class Masked(NamedTuple):
    """A text with masks in it.

    Attributes:
        tokens: int64 [n]. positions: int64 [k], ascending, what is to be told. labels: int64 [k], what was there.
    """

    tokens: np.ndarray
    positions: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Masking:
    """How texts are masked.

    Attributes:
        mask: id of the mask. vocab_size: ids are 0 to vocab_size - 1. special: ids of what is no piece of a text:
            beginning, end, padding, mask.
        probability: share of a text's tokens that is masked, its beginning and end counted. most: tokens of a text.
        span_probability: of a choice to take several tokens, 2 to `longest_span` in a row.
        also_special: whether all tokens but the first can be masked, its end too, and any id can stand in for one (as
            published); otherwise neither happens to special ones.

    Raises:
        UserError: numbers that say nothing.
    """

    mask: int
    vocab_size: int
    special: Tuple[int, ...]
    probability: float = 0.4
    most: int = 12
    span_probability: float = 0.2
    longest_span: int = 3
    also_special: bool = False

    def __post_init__(self):
        for name in ("probability", "span_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} {getattr(self, name)} of masking is not between 0 and 1")
        if self.most < 1 or self.longest_span < 2:
            raise UserError(f"masking {self.most} tokens of a text, and up to {self.longest_span} in a row: too few")

    @cached_property
    def _skips(self) -> List[int]:
        """Special ids, each less those before it: where counting the other ids skips one."""
        return [special - before for before, special in enumerate(sorted(set(self.special)))]

    @cached_property
    def _closed(self) -> FrozenSet[int]:
        """Ids that stay."""
        return frozenset() if self.also_special else frozenset(self.special)

    def number(self, length: int) -> int:
        """How many of so many tokens are masked, where so many can be; halves are rounded to the even number."""
        return min(self.most, max(1, round(length * self.probability)))

    def __call__(self, text: Sequence[int], rng: np.random.Generator) -> Masked:
        """Mask a text: its ids, with beginning and end. One without a token that can be masked comes back as it is."""
        tokens = np.asarray(text).tolist()
        length = len(tokens)
        draws = rng.random(6 * length).tolist()  # all at once: calls cost more than numbers
        positions = self._choose(tokens, draws)
        labels = [tokens[position] for position in positions]
        for position, kind, other in zip(positions, draws[4 * length :], draws[5 * length :]):
            if kind < MASKED:
                tokens[position] = self.mask
            elif kind < MASKED + RANDOM:
                tokens[position] = self._token(other)
        return Masked(*(np.array(ids, dtype=np.int64) for ids in (tokens, positions, labels)))

    def _choose(self, tokens: List[int], draws: List[float]) -> List[int]:
        """Positions, ascending: in random order, each alone or with those behind it, until there are enough; of too
        many some."""
        length, closed = len(tokens), self._closed
        order = [position for position in range(1, length) if tokens[position] not in closed]
        number = min(self.number(length), len(order))
        order.sort(key=draws.__getitem__)
        allowed, chosen = set(order), set()
        for start in order:
            if len(chosen) >= number:
                break
            if start in chosen:
                continue
            end = start + 1
            if draws[length + start] < self.span_probability:
                end += 1 + int(draws[2 * length + start] * (self.longest_span - 1))
            chosen.add(start)
            while start + 1 < end and start + 1 in allowed:
                start += 1
                chosen.add(start)
        positions = sorted(chosen)
        for draw in draws[3 * length : 3 * length + len(positions) - number]:
            positions.pop(int(draw * len(positions)))
        return positions

    def _token(self, draw: float) -> int:
        """Any id, or any that is not special, each as likely, for a number within [0, 1)."""
        if self.also_special:
            return int(draw * self.vocab_size)
        counted = int(draw * (self.vocab_size - len(self._skips)))
        return counted + bisect_right(self._skips, counted)
