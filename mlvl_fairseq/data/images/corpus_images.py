"""Pictures of a corpus as tensors, read when they are asked for."""

from concurrent.futures import ThreadPoolExecutor
from typing import Callable, Dict

import numpy as np
import torch
from PIL.Image import Image, Resampling
from tqdm import tqdm

from mlvl_fairseq.data.corpus import Corpus
from mlvl_fairseq.data.image_names import ImageFolder
from mlvl_fairseq.data.images.policy import BadImagePolicy
from mlvl_fairseq.data.images.reading import read_named, tell_of_doubts
from mlvl_fairseq.data.images.transforms import ImageTransform, PixelFunction, random_crop
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.process.threads import cores, one_thread

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

    def of_caption(self, row: int, caption: int) -> torch.Tensor:
        """An image as it is shown beside one of its captions, of that number in the data set."""
        return self[row]

    def find_unusable(self, policy: BadImagePolicy, title: str) -> np.ndarray:
        """bool [images]: which ones cannot be read, found by reading them all, and told.

        Args:
            policy: how many may be. title: of the progress bar.

        Raises:
            DataError: more than `policy` allows.
        """
        unusable, problems, doubts = np.zeros(len(self), bool), 0, []
        with ThreadPoolExecutor(cores(), initializer=one_thread) as threads:
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


class DrawnCorpusImages(CorpusImages):
    """Pictures changed at random: in another way in every epoch and for every caption, and in the same one after a
    restart.

    Args:
        corpus, split, transform, image_root, allow_outside: see :class:`CorpusImages`.
        draw: (picture, size, generator) -> a picture [size, size].
        seed: of the run.
    """

    def __init__(
        self,
        corpus: Corpus,
        split: str,
        transform: ImageTransform,
        image_root: str,
        draw: Callable[[Image, int, np.random.Generator], Image],
        seed: int,
        allow_outside: bool = False,
    ):
        super().__init__(corpus, split, transform, image_root, allow_outside)
        self.draw, self.seed, self.epoch = draw, seed, 1
        self._keep = 0  # no picture is read twice in the same way

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __getitem__(self, row: int) -> torch.Tensor:
        return self._drawn(row, row)

    def of_caption(self, row: int, caption: int) -> torch.Tensor:
        return self._drawn(row, row, caption)

    def _drawn(self, row: int, *numbers: int) -> torch.Tensor:
        size, generator = self.transform.size, np.random.default_rng([self.seed, self.epoch, *numbers])
        return self._read(row, lambda image: self.transform(self.draw(self.transform.prepared(image), size, generator)))


class CroppedCorpusImages(DrawnCorpusImages):
    """A random part of every picture, the same one for all its captions in an epoch.

    Args:
        smallest: least share of a picture's area, see :func:`random_crop`.
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
        def crop(image: Image, size: int, generator: np.random.Generator) -> Image:
            return random_crop(image, smallest, generator).resize((size, size), resample=Resampling.BICUBIC)

        super().__init__(corpus, split, transform, image_root, crop, seed, allow_outside)

    def of_caption(self, row: int, caption: int) -> torch.Tensor:
        return self[row]
