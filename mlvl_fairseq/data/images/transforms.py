"""Named image transforms: what a network's image tower takes, and random parts of pictures to train it on.

A network says by name what it was trained with (``clip@224``). Another transform is a function under
:func:`register_transform`.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np
import torch

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.registry import registering

if TYPE_CHECKING:
    from PIL import Image

PixelFunction = Callable[["Image.Image"], torch.Tensor]

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CLIP_TRANSFORM = "clip"
HIGH_BIT_DEPTHS = ("clip", "scale")
WIDE_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")  # Pillow's of 16-bit and 32-bit integers, and of floats
TRANSFORMS: Dict[str, Callable[[int], PixelFunction]] = {}


@dataclass(frozen=True)
class ImageTransform:
    """A picture to what an image tower takes. Two that are equal give equal pixels; ``str()`` is ``name@size``.

    Args:
        name: of a registered transform. size: height and width in pixels of what comes out.
        high_bit_depth: what becomes of values that do not fit into 8 bits: ``clip`` cuts them at 0 and 255, as CLIP's
            own preprocessing does, so that most such pictures become white or black; ``scale``: see :func:`scaled`.
        draft: whether JPEG files may be decoded at 1/2, 1/4 or 1/8 of their size, which gives other pixels.

    Raises:
        UserError: there is no transform of that name, or no such way to read pictures of more bits.
    """

    name: str
    size: int
    high_bit_depth: str = "clip"
    draft: bool = False

    def __post_init__(self) -> None:
        if self.high_bit_depth not in HIGH_BIT_DEPTHS:
            raise UserError(f"--high-bit-depth {self.high_bit_depth}: choose one of {', '.join(HIGH_BIT_DEPTHS)}")
        if self.name not in TRANSFORMS:
            raise UserError(f"there is no image transform '{self.name}'; there are: {', '.join(transform_names())}")

    def __call__(self, image: "Image.Image") -> torch.Tensor:
        """A picture of any mode to float32 [3, size, size]."""
        return _pixel_function(self.name, self.size)(self.prepared(image))

    def prepared(self, image: "Image.Image") -> "Image.Image":
        """A whole picture, before parts of it are taken, if values of more than 8 bits are scaled; others as it is."""
        return scaled(image) if self.high_bit_depth == "scale" else image

    @property
    def least_side(self) -> Optional[int]:
        """The shorter side that a decoded picture must have, in pixels; None: it is decoded as it is."""
        return round(self.size * TRANSFORMS[self.name].resized) if self.draft else None

    def __str__(self) -> str:
        return f"{self.name}@{self.size}"


def reading_of(high_bit_depth: str, draft: bool = False) -> Optional[str]:
    """How pictures are read, for manifests and signatures; None: as CLIP's preprocessing does."""
    ways = [f"high-bit-depth={high_bit_depth}"] if high_bit_depth != "clip" else []
    return ",".join([*ways, *(["draft-jpeg"] if draft else [])]) or None


def scaled(image: "Image.Image") -> "Image.Image":
    """A picture of 16-bit, 32-bit or floating point values as one of 8 bits: its own range, from the smallest value to
    the largest, becomes 0 to 255. Other pictures are as they were."""
    from PIL import Image

    if image.mode not in WIDE_MODES:
        return image
    values = np.nan_to_num(np.asarray(image, np.float64))
    low, high = values.min(), values.max()
    levels = (values - low) * (255 / (high - low) if high > low else 0)
    return Image.fromarray(np.rint(levels).astype(np.uint8))


def register_transform(name: str, resized: float = 1.0) -> Callable:
    """Decorator of a function ``size -> (picture -> float32 [3, size, size])``: make it known as `name`. `resized`: the
    shorter side of what a picture is resized to before it is cut, in sizes of what comes out."""
    return registering(TRANSFORMS, "an image transform", name, resized=resized)


def transform_names() -> List[str]:
    return sorted(TRANSFORMS)


@lru_cache(maxsize=None)
def _pixel_function(name: str, size: int) -> PixelFunction:
    """Made where it is used: a transform travels to data loading workers as its name and size."""
    return TRANSFORMS[name](size)


@register_transform(CLIP_TRANSFORM)
def clip(size: int) -> PixelFunction:
    """CLIP's preprocessing, bit-identical to the one of OpenAI's package (Radford et al. 2021).

    The shorter side is resized to `size` with bicubic interpolation in the picture's own mode, the centre is cut out,
    and only then is it converted to RGB and normalised by CLIP's statistics.
    """
    return _resize_and_cut(size, size)


@register_transform("mclip", resized=248 / 224)
def mclip(size: int) -> PixelFunction:
    """mCLIP's preprocessing as published (Chen et al. 2023): as :func:`clip`, but the shorter side is resized to 248
    for a picture of 224, and in the same proportion for others, so that the edges are cut off."""
    return _resize_and_cut(round(size * 248 / 224), size)


@register_transform("lilt")
def lilt(size: int) -> PixelFunction:
    """LilT's preprocessing (Khan and Fu 2023, as ALBEF's): the whole picture is made a square, whatever its shape was,
    with CLIP's statistics, although its image towers were trained with ImageNet's."""
    return _squeeze(size, CLIP_MEAN, CLIP_STD)


@register_transform("imagenet_square")
def imagenet_square(size: int) -> PixelFunction:
    """As :func:`lilt`, with the statistics of ImageNet that DeiT and Swin were trained with."""
    return _squeeze(size, IMAGENET_MEAN, IMAGENET_STD)


@register_transform("efficientnet_lite")
def efficientnet_lite(size: int) -> PixelFunction:
    """EfficientNet-Lite's preprocessing as Google released it: the shorter side is resized to `size` with bicubic
    interpolation, the centre cut out, and values of 0 to 255 become (value - 127) / 128."""
    from torchvision import transforms

    return transforms.Compose(
        [
            lambda image: image.convert("RGB"),
            transforms.Resize(size, interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(size),
            transforms.PILToTensor(),
            lambda pixels: (pixels.float() - 127) / 128,
        ]
    )


def _squeeze(size: int, mean: Sequence[float], std: Sequence[float]) -> PixelFunction:
    from torchvision import transforms

    return transforms.Compose(
        [
            lambda image: image.convert("RGB"),
            transforms.Resize((size, size), interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )


def _resize_and_cut(shorter_side: int, size: int) -> PixelFunction:
    from torchvision import transforms

    return transforms.Compose(
        [
            transforms.Resize(shorter_side, interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(size),
            lambda image: image.convert("RGB"),
            transforms.ToTensor(),
            transforms.Normalize(CLIP_MEAN, CLIP_STD),
        ]
    )


def random_crop(image: "Image.Image", smallest: float, generator: np.random.Generator) -> "Image.Image":
    """A :func:`random_part` of a picture of at least the share `smallest` of its area; where none is found, the whole
    picture."""
    part = random_part(image.size, (smallest, 1), generator)
    return image if part is None else image.crop(part)


def random_part(
    size: Tuple[int, int], share: Tuple[float, float], generator: np.random.Generator
) -> Optional[Tuple[int, int, int, int]]:
    """A random part of a picture, as large a share of its area as is drawn from `share`, and at most a third wider or
    higher than a square's (Szegedy et al. 2015; torchvision's RandomResizedCrop).

    Args:
        size: width and height. generator: what draws. torch's global one would not do: fairseq reads ahead in a thread
            of its own.

    Returns:
        left, top, right, bottom; None: ten draws did not fit into the picture.
    """
    width, height = size
    for _ in range(10):
        area = width * height * generator.uniform(*share)
        ratio = math.exp(generator.uniform(-math.log(4 / 3), math.log(4 / 3)))
        part_width, part_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < part_width <= width and 0 < part_height <= height:
            left = int(generator.integers(0, width - part_width, endpoint=True))
            top = int(generator.integers(0, height - part_height, endpoint=True))
            return left, top, left + part_width, top + part_height
    return None
