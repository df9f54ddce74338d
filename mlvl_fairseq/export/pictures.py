"""What cuts pictures, as the configurations of other programs say it; and pictures to try an export on."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple

import numpy as np

from mlvl_fairseq.data.images.transforms import TRANSFORMS, ImageTransform

if TYPE_CHECKING:
    from PIL import Image

BICUBIC = 3  # Pillow's number


@dataclass(frozen=True)
class PictureRecipe:
    """A transform in plain values: bicubic resizing, cutting out the middle, normalising.

    Attributes:
        size: height and width of what comes out. shorter_side: what the shorter side is resized to; None: the whole
            picture is squeezed into the square.
        mean, std: of each channel.
    """

    size: int
    shorter_side: Optional[int]
    mean: Tuple[float, ...]
    std: Tuple[float, ...]

    @classmethod
    def of(cls, transform: ImageTransform) -> Optional["PictureRecipe"]:
        """What a registered transform does; None: it is no such sequence of torchvision's steps."""
        from torchvision import transforms

        steps = getattr(TRANSFORMS[transform.name](transform.size), "transforms", [])
        found = {type(step): step for step in steps}
        resize, normalize = found.get(transforms.Resize), found.get(transforms.Normalize)
        if resize is None or normalize is None:
            return None
        shorter_side = resize.size if isinstance(resize.size, int) else None
        return cls(transform.size, shorter_side, tuple(normalize.mean), tuple(normalize.std))

    def for_transformers(self) -> Dict[str, Any]:
        """``preprocessor_config.json`` of `transformers`, whose class for CLIP resizes and cuts as this does."""
        side = {"height": self.size, "width": self.size}
        return {
            "image_processor_type": "CLIPImageProcessor",
            "do_convert_rgb": True,
            "do_resize": True,
            "size": side if self.shorter_side is None else {"shortest_edge": self.shorter_side},
            "resample": BICUBIC,
            "do_center_crop": self.shorter_side is not None,
            "crop_size": side,
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
        }

    def for_open_clip(self) -> Optional[Dict[str, Any]]:
        """``preprocess_cfg`` of open_clip; None: it has no such way to cut."""
        if self.shorter_side not in (None, self.size):
            return None
        return {
            "size": [self.size, self.size],
            "mode": "RGB",
            "mean": list(self.mean),
            "std": list(self.std),
            "interpolation": "bicubic",
            "resize_mode": "squash" if self.shorter_side is None else "shortest",
        }


def own_pictures(size: int) -> List["Image.Image"]:
    """Four pictures, the same on every run: a square of the network's own size, a wide, a high and a small one."""
    from PIL import Image

    shapes = [(size, size), (size + size // 3, 2 * size), (3 * size, 2 * size + 1), (size // 2 + 1, size // 2 + 3)]
    return [Image.fromarray(_pixels(seed, *shape)) for seed, shape in enumerate(shapes)]


def _pixels(seed: int, height: int, width: int) -> np.ndarray:
    """uint8 [height, width, 3]: waves, a hard edge and some noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / max(height, width)
    rates, phases = rng.uniform(2, 40, (3, 2)), rng.uniform(0, 6, 3)
    waves = [np.sin(rate[0] * x + rate[1] * y + phase) for rate, phase in zip(rates, phases)]
    picture = 127 + 90 * np.stack(waves, axis=-1) + rng.normal(0, 12, (height, width, 3))
    picture[height // 4 : height // 2, width // 3 : 2 * width // 3] = rng.uniform(0, 255, 3)
    return np.clip(picture, 0, 255).astype(np.uint8)
