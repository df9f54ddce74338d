"""Labelled pictures as fairseq batches, to train a classifier on."""

import logging
from typing import Callable, Dict, List, Optional

import numpy as np
import torch
from tqdm import tqdm

from mlvl_fairseq.data.classification.base import LabelledImages
from mlvl_fairseq.data.drawn_dataset import DrawnDataset
from mlvl_fairseq.data.images.corpus_images import CACHE_BYTES
from mlvl_fairseq.data.images.policy import BadImagePolicy
from mlvl_fairseq.data.images.transforms import ImageTransform
from mlvl_fairseq.errors import DataError, UserError

logger = logging.getLogger(__name__)


class LabelledDataset(DrawnDataset):
    """A picture an item: its pixels, and the class that it is of.

    Args:
        images: which, and how they are opened. transform: a picture to what the image tower takes.
        draw: (picture, size, generator) -> a picture [size, size], in another way in every epoch and in the same one
            after a restart; None: pictures stay as they are, and small sets are decoded once.
        seed: of what is drawn. shuffle: a new order every epoch (it follows fairseq's seed and epoch only).
    """

    def __init__(
        self,
        images: LabelledImages,
        transform: ImageTransform,
        draw: Optional[Callable] = None,
        seed: int = 0,
        shuffle: bool = False,
    ):
        self.images, self.transform, self.draw = images, transform, draw
        self.seed, self.epoch, self.shuffle = seed, 1, shuffle
        self.sizes = np.ones(len(images), np.int64)
        self._opened = images.dataset(transform)
        self._cached: Dict[int, torch.Tensor] = {}
        self._keep = 0 if draw else CACHE_BYTES // (3 * transform.size**2 * 4)  # images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Dict:
        """Raises DataError: the picture cannot be read."""
        return {"id": index, "pixels": self._pixels(int(index)), "label": int(self.images.labels[index])}

    def _pixels(self, index: int) -> torch.Tensor:
        if index in self._cached:
            return self._cached[index]
        image = self._drawn(index) if self.draw else self._opened[index]
        if image.pixels is None:
            raise DataError(f"{image.problem} (--bad-image skip looks at all pictures first, and goes on without such)")
        if len(self._cached) < self._keep:
            self._cached[index] = image.pixels
        return image.pixels

    def _drawn(self, index: int):
        size, generator = self.transform.size, np.random.default_rng([self.seed, self.epoch, index])

        def pixels(image) -> torch.Tensor:
            return self.transform(self.draw(self.transform.prepared(image), size, generator))

        return self.images.dataset(pixels, [self.images.images[index]])[0]

    def collater(self, samples: List[Dict]) -> Dict:
        """``net_input``: images float32 [B, 3, size, size]; labels int64 [B]."""
        if not samples:
            return {}
        return {
            "id": torch.tensor([sample["id"] for sample in samples]),
            "nsentences": len(samples),
            "ntokens": len(samples),
            "net_input": {"images": torch.stack([sample["pixels"] for sample in samples])},
            "labels": torch.tensor([sample["label"] for sample in samples]),
        }


def readable(images: LabelledImages, transform: ImageTransform, policy: BadImagePolicy, title: str) -> LabelledImages:
    """Those that can be read, found by reading them all where the policy is to go on without the others.

    Args:
        title: of the progress bar.

    Raises:
        DataError: more than `policy` allows cannot be read. UserError: none can.
    """
    if policy.action != "skip":
        return images
    bad, opened = set(), images.dataset(transform)
    for row, name in enumerate(tqdm(images.images, desc=title, unit="image")):
        problem = opened[row].problem
        if problem is not None:
            bad.add(name)
            policy.accept(problem, len(bad))
    if len(bad) == len(images):
        raise UserError(f"{images.path}: none of its {len(images)} images can be used")
    return images.without(bad)
