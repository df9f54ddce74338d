"""Pictures of a corpus as tensors, read when they are asked for."""

from typing import Dict

import numpy as np
import torch
from PIL.Image import Resampling

from mlvl_fairseq.data.corpus import Corpus
from mlvl_fairseq.data.image_names import ImageFolder
from mlvl_fairseq.data.images.reading import load_image
from mlvl_fairseq.data.images.transforms import ImageTransform, random_crop
from mlvl_fairseq.errors import UserError

CACHE_BYTES = 1 << 30  # small sets are decoded once, not once an epoch


class CorpusImages:
    """Image row -> float32 [3, size, size].

    Args:
        corpus, split: whose images.
        transform: what the image tower takes.
        image_root: folder of the image names; empty: the one given to mlvl-prepare.
        allow_outside: whether names may leave it.

    Raises:
        UserError: no folder is known.
    """

    def __init__(
        self,
        corpus: Corpus,
        split: str,
        transform: ImageTransform,
        image_root: str = "",
        allow_outside: bool = False,
    ):
        root = image_root or corpus.manifest.get("image_root")
        if not root:
            raise UserError(f"{corpus.folder} does not know where its images are; give --image-root")
        self.folder, self.names, self.transform = ImageFolder(root, allow_outside), corpus.images(split), transform
        self._cached: Dict[int, torch.Tensor] = {}
        self._keep = CACHE_BYTES // (3 * transform.size**2 * 4)  # images

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, row: int) -> torch.Tensor:
        if row in self._cached:
            return self._cached[row]
        pixels = self.transform(self._load(row))
        if len(self._cached) < self._keep:
            self._cached[row] = pixels
        return pixels

    def _load(self, row: int):
        return load_image(self.folder.path(self.names[row]), mode=None)


class CroppedCorpusImages(CorpusImages):
    """A random part of every picture, another one in every epoch, and the same one after a restart.

    Args:
        corpus, split, transform, image_root, allow_outside: see :class:`CorpusImages`.
        smallest: least share of a picture's area, see :func:`random_crop`.
        seed: of the run.
    """

    def __init__(
        self,
        corpus: Corpus,
        split: str,
        transform: ImageTransform,
        image_root: str,
        allow_outside: bool,
        smallest: float,
        seed: int,
    ):
        super().__init__(corpus, split, transform, image_root, allow_outside)
        self.smallest, self.seed, self.epoch = smallest, seed, 1

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __getitem__(self, row: int) -> torch.Tensor:
        part = random_crop(self._load(row), self.smallest, np.random.default_rng([self.seed, self.epoch, row]))
        size = self.transform.size
        return self.transform(part.resize((size, size), resample=Resampling.BICUBIC))
