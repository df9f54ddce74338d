"""What can be added to a transformer block from outside, so that blocks stay those of CLIP."""

from dataclasses import dataclass, replace
from typing import Callable, Optional

from torch import Tensor

Map = Callable[[Tensor], Tensor]  # [B, T, width] -> [B, T, width], each position by itself


@dataclass(frozen=True)
class Prefix:
    """Keys and values in front of those of the tokens; every position sees them.

    Attributes:
        key, value: [B, P, width]; [1, P, width] serves all examples.
        visible: bool [B, P + T], keys of prefix and tokens that positions may see at all; None: every one.
    """

    key: Tensor
    value: Tensor
    visible: Optional[Tensor] = None

    @property
    def length(self) -> int:
        return self.key.shape[1]

    def select(self, rows: Tensor, length: int) -> "Prefix":
        """The prefix of some examples (int64 [R]), cut to their first `length` tokens."""
        if len(self.key) > 1:
            key, value = self.key[rows], self.value[rows]
        else:
            key, value = self.key, self.value
        visible = None if self.visible is None else self.visible[rows, : self.length + length]
        return Prefix(key, value, visible)


@dataclass(frozen=True)
class BlockAdapter:
    """What is added to one block.

    Attributes:
        query, value: functions of the attention's input whose result is added to the queries, to the values.
        prefix: further keys and values.
        output: takes the block's output, gives what takes its place.
    """

    query: Optional[Map] = None
    value: Optional[Map] = None
    prefix: Optional[Prefix] = None
    output: Optional[Map] = None

    def select(self, rows: Tensor, length: int) -> "BlockAdapter":
        """For some examples of the batch only, see :meth:`Prefix.select`."""
        return self if self.prefix is None else replace(self, prefix=self.prefix.select(rows, length))
