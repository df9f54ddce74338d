"""The rank of every query of a retrieval test, kept so that two models can later be compared query by query."""

import zipfile
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from mlvl_fairseq.errors import DataError
from mlvl_fairseq.files import atomic_path


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
        """Write a compressed ``.npz`` with one int32 array an attribute, atomically."""
        arrays = {name: np.asarray(array, dtype=np.int32) for name, array in vars(self).items()}
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, **arrays)

    @classmethod
    def load(cls, path) -> "QueryRanks":
        """The inverse of :meth:`save`.

        Raises:
            FileNotFoundError: there is no such file.
            DataError: it is not what `save` writes.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                ranks = cls(**{entry.name: arrays[entry.name] for entry in fields(cls)})
        except FileNotFoundError:
            raise
        except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as error:
            raise DataError(f"not a file of ranks ({error}); delete it and its score, evaluate again", path) from None
        if not ranks._fits():
            raise DataError("its arrays do not fit together; delete it and its score, evaluate again", path)
        return ranks

    def _fits(self) -> bool:
        n, m = len(self.images), len(self.text_to_image)
        arrays = vars(self).values()
        return (
            all(array.ndim == 1 and array.dtype == np.int32 for array in arrays)
            and (len(self.image_ranks), len(self.text_ranks)) == (n, m)
            and m > 0
            and 0 <= self.text_to_image.min() <= self.text_to_image.max() < n
        )

    def same_queries(self, other: "QueryRanks") -> bool:
        """Are these the ranks of the same images and captions?"""
        return np.array_equal(self.images, other.images) and np.array_equal(self.text_to_image, other.text_to_image)


def ranks_path(score_path) -> Path:
    """``<lang>.<split>.ranks.npz`` beside ``<lang>.<split>.json``."""
    return Path(score_path).with_suffix(".ranks.npz")
