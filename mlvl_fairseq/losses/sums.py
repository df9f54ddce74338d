"""A sum, and of how many: what a mean over a batch, or over the batches of all ranks, is made of."""

from typing import NamedTuple

from torch import Tensor

NOTHING = -100  # the label of what asks for nothing: torch's cross-entropy leaves it out


class Summed(NamedTuple):
    """Losses added up.

    Attributes:
        total: scalar, float32. number: scalar, how many were added up; where it is 0, so is `total`, with a gradient
            that is zero.
    """

    total: Tensor
    number: Tensor

    @property
    def mean(self) -> Tensor:
        """Scalar; of nothing: 0."""
        return self.total / self.number.clamp(min=1)
