"""What pictures go through while a network trains on them, as LilT has it: a random part, perhaps mirrored, then
RandAugment. Options of tasks, and what they make of a picture."""

from dataclasses import dataclass, field, fields
from typing import Optional, Tuple

import numpy as np
from PIL import Image, ImageOps

from mlvl_fairseq.data.images.rand_augment import FORMS, rand_augment
from mlvl_fairseq.data.images.transforms import random_part
from mlvl_fairseq.errors import UserError

_WIDEST = 4 / 3


@dataclass
class AugmentationOptions:
    """Options of tasks that train on pictures."""

    augment: bool = field(
        default=False,
        metadata={
            "help": "train on random parts of pictures, mirrored and changed by RandAugment, as LilT does; by default "
            "on whole pictures, as in validation"
        },
    )
    crop_scale: str = field(
        default="0.2,1.0", metadata={"help": "with --augment: share of a picture's area that a part has, drawn between"}
    )
    flip: float = field(default=0.5, metadata={"help": "with --augment: probability that a picture is mirrored"})
    rand_augment: str = field(
        default="fixed",
        metadata={
            "help": "with --augment: two of ten changes of colours and places; 'reference' with the two faults of the "
            "published code (AutoContrast makes channels white, Sharpness wraps around)",
            "choices": FORMS,
        },
    )


@dataclass(frozen=True)
class Augmentation:
    """A picture to a square part of it, changed at random.

    Args:
        share: of a picture's area, drawn between these two. flip: probability of mirroring.
        form: of RandAugment, see :func:`~mlvl_fairseq.data.images.rand_augment.rand_augment`.

    Raises:
        UserError: shares that are none, or no probability, or no such form.
    """

    share: Tuple[float, float] = (0.2, 1.0)
    flip: float = 0.5
    form: str = "fixed"

    def __post_init__(self) -> None:
        least, most = self.share
        if not 0 < least <= most <= 1:
            raise UserError(f"--crop-scale {least:g},{most:g}: give two shares of an area, the smaller first: 0.2,1.0")
        if not 0 <= self.flip <= 1:
            raise UserError(f"--flip {self.flip:g} is no probability")
        if self.form not in FORMS:
            raise UserError(f"--rand-augment {self.form}: choose one of {', '.join(FORMS)}")

    @classmethod
    def of(cls, options: AugmentationOptions) -> Optional["Augmentation"]:
        """What options say; they can be a task's. None: pictures stay as they are.

        Raises:
            UserError: they say what cannot be, or how to change pictures that are not to be changed.
        """
        if not options.augment:
            for entry in fields(AugmentationOptions)[1:]:
                if getattr(options, entry.name) != entry.default:
                    option = f"--{entry.name.replace('_', '-')}"
                    raise UserError(f"{option} {getattr(options, entry.name)} goes with --augment: give it, too")
            return None
        return cls(_shares(options.crop_scale), options.flip, str(options.rand_augment))

    def __call__(self, image: Image.Image, size: int, generator: np.random.Generator) -> Image.Image:
        """RGB [size, size].

        Args:
            image: of any mode. generator: what draws.
        """
        part = random_part(image.size, self.share, generator) or middle(image.size)
        image = image.convert("RGB").crop(part).resize((size, size), resample=Image.Resampling.BICUBIC)
        if generator.random() < self.flip:
            image = ImageOps.mirror(image)
        return rand_augment(image, self.form, generator)


def middle(size: Tuple[int, int]) -> Tuple[int, int, int, int]:
    """The middle of a picture, at most a third wider or higher than a square: left, top, right, bottom."""
    width, height = size
    part_width = min(width, max(1, round(height * _WIDEST)))
    part_height = min(height, max(1, round(width * _WIDEST)))
    left, top = (width - part_width) // 2, (height - part_height) // 2
    return left, top, left + part_width, top + part_height


def _shares(text: str) -> Tuple[float, float]:
    try:
        least, most = map(float, text.split(","))
    except ValueError:
        raise UserError(f"--crop-scale '{text}': give two shares of an area, the smaller first: 0.2,1.0") from None
    return least, most
