"""Examples as fairseq batches."""

from dataclasses import dataclass, replace
from typing import Any, Callable, Dict, List, Optional, Sequence

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from mlvl_fairseq.data.drawn_dataset import DrawnDataset
from mlvl_fairseq.data.examples.base import Example
from mlvl_fairseq.data.examples.images import ExampleImages
from mlvl_fairseq.data.examples.targets import Targets, padded
from mlvl_fairseq.data.examples.texts import ExampleTexts
from mlvl_fairseq.data.images.augmentation import Augmentation
from mlvl_fairseq.data.images.corpus_images import CACHE_BYTES
from mlvl_fairseq.data.images.policy import BadImagePolicy
from mlvl_fairseq.data.images.transforms import ImageTransform
from mlvl_fairseq.errors import DataError, UserError


@dataclass(frozen=True)
class Shown:
    """How images of examples become what a network takes.

    Attributes:
        images: opens them by name. transform: a picture to the network's input; None: features are given.
        augmentation: of pictures while training; None: they stay as they are.
        may_mirror: example -> whether its pictures may be mirrored.
    """

    images: ExampleImages
    transform: Optional[ImageTransform]
    augmentation: Optional[Augmentation] = None
    may_mirror: Callable[[Example], bool] = lambda example: True

    def __call__(self, name: str, example: Example, generator: np.random.Generator) -> Tensor:
        """One image of an example. Raises DataError: it cannot be read."""
        image = self.images.open(name)
        if self.transform is None:
            return image
        image = self.transform.prepared(image)
        if self.augmentation is not None:
            mirrors = self.may_mirror(example)
            change = self.augmentation if mirrors else replace(self.augmentation, flip=0.0)
            image = change(image, self.transform.size, generator)
        try:
            return self.transform(image)
        except Exception as error:  # modes that Pillow reads and cannot convert
            raise DataError(f"cannot be made the network's input ({type(error).__name__}: {error})", name) from None


class ExamplesDataset(DrawnDataset):
    """An example an item.

    Args:
        examples: which. texts: to ids. shown: images to tensors. targets: what a batch asks for.
        pad: id of padding. seed: of what is drawn, in another way in every epoch and in the same one after a restart.
        shuffle: a new order every epoch (it follows fairseq's seed and epoch only).
    """

    def __init__(
        self,
        examples: Sequence[Example],
        texts: ExampleTexts,
        shown: Shown,
        targets: Targets,
        pad: int,
        seed: int = 0,
        shuffle: bool = False,
    ):
        self.examples, self.texts, self.shown, self.targets = examples, texts, shown, targets
        self.pad, self.seed, self.epoch, self.shuffle = pad, seed, 1, shuffle
        self.sizes = np.ones(len(examples), np.int64)
        self._cached: Dict[str, Tensor] = {}
        transform = shown.transform if shown.augmentation is None else None
        self._keep = CACHE_BYTES // (3 * transform.size**2 * 4) if transform else 0  # pictures that stay decoded

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Dict[str, Any]:
        """Raises DataError: a picture cannot be read."""
        example = self.examples[index]
        generator = np.random.default_rng([self.seed, self.epoch, index])
        return {
            "id": int(index),
            "tokens": self.texts.ids(example.text),
            "images": [self._image(name, example, generator) for name in example.images],
            "example": example,
        }

    def _image(self, name: str, example: Example, generator: np.random.Generator) -> Tensor:
        if name in self._cached:
            return self._cached[name]
        try:
            image = self.shown(name, example, generator)
        except DataError as error:
            raise DataError(f"{error} (--bad-image skip looks at all images first, and goes on without such)") from None
        if len(self._cached) < self._keep:
            self._cached[name] = image
        return image

    def collater(self, samples: List[Dict]) -> Dict:
        """``net_input``: ``tokens`` int64 [B, T], ``eos_positions`` [B], ``lengths`` [B], which stay an array,
        ``images`` [B * V, ...], of which image v of row b is at b * V + v; and what the targets add."""
        if not samples:
            return {}
        tokens = [sample["tokens"] for sample in samples]
        batch = {
            "id": torch.tensor([sample["id"] for sample in samples]),
            "nsentences": len(samples),
            "ntokens": sum(map(len, tokens)),
            "net_input": {
                **padded("tokens", "eos_positions", tokens, self.pad),
                "lengths": np.array([len(text) for text in tokens]),
                "images": torch.stack([image for sample in samples for image in sample["images"]]),
            },
        }
        self.targets.add_to(batch, [sample["example"] for sample in samples])
        return batch


def readable(examples: Sequence[Example], shown: Shown, policy: BadImagePolicy, title: str) -> List[Example]:
    """Those whose images can be read, found by reading them all where the policy is to go on without the others.

    Args:
        title: of the progress bar.

    Raises:
        DataError: more images than `policy` allows cannot be read. UserError: no example is left.
    """
    if policy.action != "skip":
        return list(examples)
    bad, names = set(), dict.fromkeys(name for example in examples for name in example.images)
    for name in tqdm(names, desc=title, unit="image"):
        try:
            replace(shown, augmentation=None)(name, None, None)
        except DataError as error:
            bad.add(name)
            policy.accept(str(error), len(bad))
    kept = [example for example in examples if not bad & set(example.images)]
    if not kept:
        raise UserError(f"{title}: none of the {len(names)} images can be used")
    return kept
