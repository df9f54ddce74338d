"""Pictures of a corpus as tensors, read when they are asked for."""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Dict

import numpy as np
import torch
from PIL.Image import Resampling
from tqdm import tqdm

from mlvl_fairseq.data.corpus import Corpus
from mlvl_fairseq.data.image_names import ImageFolder
from mlvl_fairseq.data.images.policy import BadImagePolicy
from mlvl_fairseq.data.images.reading import read_named, tell_of_doubts
from mlvl_fairseq.data.images.transforms import ImageTransform, PixelFunction, random_crop
from mlvl_fairseq.errors import DataError, UserError

CACHE_BYTES = 1 << 30  # small sets are decoded once, not once an epoch


class CorpusImages:
    """Image row -> float32 [3, size, size].

    Args:
        corpus, split: whose images.
        transform: what the image tower takes.
        image_root: folder of the image names; empty: the one given to mlvl-prepare.
        allow_outside: whether names may leave it.

    Raises:
        UserError: no folder is known. DataError: a name leaves it, and may not.
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
        self.folder.require_inside(self.names, corpus.images_path(split))
        self._cached: Dict[int, torch.Tensor] = {}
        self._keep = CACHE_BYTES // (3 * transform.size**2 * 4)  # images

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, row: int) -> torch.Tensor:
        """Raises DataError: the image cannot be read."""
        if row in self._cached:
            return self._cached[row]
        pixels = self._read(row, self.transform)
        self._keep_pixels(row, pixels)
        return pixels

    def find_unusable(self, policy: BadImagePolicy, title: str) -> np.ndarray:
        """bool [images]: which ones cannot be read, found by reading them all, and told.

        Args:
            policy: how many may be. title: of the progress bar.

        Raises:
            DataError: more than `policy` allows.
        """
        unusable, problems, doubts = np.zeros(len(self), bool), 0, []
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            images = threads.map(lambda row: read_named(self.folder, self.names[row], self.transform), range(len(self)))
            for row, image in enumerate(tqdm(images, desc=title, total=len(self), unit="image")):
                if image.pixels is None:
                    unusable[row] = True
                    problems += 1
                    policy.accept(image.problem, problems)
                else:
                    self._keep_pixels(row, image.pixels)
                    doubts += [image.doubt] if image.doubt else []
        tell_of_doubts(doubts, len(doubts), len(self), title)
        return unusable

    def _read(self, row: int, transform: PixelFunction) -> torch.Tensor:
        image = read_named(self.folder, self.names[row], transform)
        if image.pixels is None:
            raise DataError(f"{image.problem} (--bad-image skip looks at all pictures first, and goes on without such)")
        return image.pixels

    def _keep_pixels(self, row: int, pixels: torch.Tensor) -> None:
        if len(self._cached) < self._keep:
            self._cached[row] = pixels


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
        smallest: float,
        seed: int,
        allow_outside: bool = False,
    ):
        super().__init__(corpus, split, transform, image_root, allow_outside)
        self.smallest, self.seed, self.epoch = smallest, seed, 1

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __getitem__(self, row: int) -> torch.Tensor:
        size, generator = self.transform.size, np.random.default_rng([self.seed, self.epoch, row])

        def crop(image):
            part = random_crop(self.transform.prepared(image), self.smallest, generator)
            return self.transform(part.resize((size, size), resample=Resampling.BICUBIC))

        return self._read(row, crop)
