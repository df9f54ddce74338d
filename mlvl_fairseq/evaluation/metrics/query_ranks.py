"""The rank of every query of a retrieval test, kept so that two models can later be compared query by query."""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from mlvl_fairseq.arrays import read_arrays, write_arrays
from mlvl_fairseq.errors import DataError

_AGAIN = "delete it and its score, evaluate again"


@dataclass(frozen=True)
class QueryRanks:
    """Ranks in both directions, int32, 0 = best; see :func:`mlvl_fairseq.evaluation.metrics.ranking.retrieval_ranks`.

    Attributes:
        images: [n] what tells the images of a split apart: the row of each in the corpus's list of images (runs of
            mlvl-cll), or a checksum of its name (mlvl-evaluate).
        text_to_image: [m] the image of each caption, a position in `images`.
        image_ranks: [n] rank of the best caption of each image.
        text_ranks: [m] rank of each caption's image.
    """

    images: np.ndarray
    text_to_image: np.ndarray
    image_ranks: np.ndarray
    text_ranks: np.ndarray

    def save(self, path) -> None:
        """Write a compressed ``.npz`` with one int32 array an attribute, atomically, with a seal."""
        write_arrays(path, {name: np.asarray(array, dtype=np.int32) for name, array in vars(self).items()})

    @classmethod
    def load(cls, path) -> "QueryRanks":
        """The inverse of :meth:`save`.

        Raises:
            DataError: there is no such file, or it is not what `save` writes.
        """
        ranks = cls(**read_arrays(path, {entry.name: ("int32", ("n",)) for entry in fields(cls)}, _AGAIN))
        if not ranks._fits():
            raise DataError(f"its arrays do not fit together; {_AGAIN}", path)
        return ranks

    def _fits(self) -> bool:
        n, m = len(self.images), len(self.text_to_image)
        return (
            (len(self.image_ranks), len(self.text_ranks)) == (n, m)
            and m > 0
            and 0 <= self.text_to_image.min() <= self.text_to_image.max() < n
        )

    def same_queries(self, other: "QueryRanks") -> bool:
        """Are these the ranks of the same images and captions?"""
        return np.array_equal(self.images, other.images) and np.array_equal(self.text_to_image, other.text_to_image)


def ranks_path(score_path) -> Path:
    """``<lang>.<split>.ranks.npz`` beside ``<lang>.<split>.json``."""
    return Path(score_path).with_suffix(".ranks.npz")
