"""Pictures that a program has at hand: files, Pillow images, arrays of pixels."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, List, Sequence, Union

import numpy as np
import torch
from torch.utils.data import Dataset

from mlvl_fairseq.data.images.reading import MAX_PIXELS, LoadedImage, as_pixels, check_size, read_image
from mlvl_fairseq.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

Picture = Union[str, Path, "Image.Image", np.ndarray]
_SHAPES = "uint8 of shape [height, width], [height, width, 3] or [height, width, 4]"


class GivenImages(Dataset):
    """Pictures of any kind, transformed; one that cannot be used is a problem, as in an `ImageDataset`.

    Args:
        pictures: each a path, a Pillow image, or an array, uint8 [H, W], [H, W, 3] or [H, W, 4].
        transform: see `ImageDataset`. max_pixels: largest width x height.

    Attributes:
        names: how messages call each: its path, or ``picture 3``, counted from 0.
    """

    def __init__(
        self,
        pictures: Sequence[Picture],
        transform: Callable[["Image.Image"], torch.Tensor],
        max_pixels: int = MAX_PIXELS,
    ):
        self.pictures, self.transform, self.max_pixels = list(pictures), transform, max_pixels
        self.names: List[str] = [
            str(one) if isinstance(one, (str, Path)) else f"picture {place}" for place, one in enumerate(self.pictures)
        ]

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> LoadedImage:
        picture, name = self.pictures[index], self.names[index]
        if isinstance(picture, (str, Path)):
            return read_image(picture, self.transform, self.max_pixels)
        try:
            image = _as_image(picture, name)
            check_size(image.width, image.height, self.max_pixels, name)
        except DataError as error:
            return LoadedImage(None, str(error))
        return as_pixels(image, self.transform, name)


def _as_image(picture: Any, name: str) -> "Image.Image":
    from PIL import Image

    if isinstance(picture, Image.Image):
        return picture
    if not isinstance(picture, np.ndarray):
        raise DataError(f"is a {type(picture).__name__}: give a path, a Pillow image or an array", name)
    fits = picture.ndim == 2 or picture.ndim == 3 and picture.shape[2] in (3, 4)
    if picture.dtype != np.uint8 or not fits or not picture.size:
        raise DataError(f"is an array, {picture.dtype} of shape {list(picture.shape)}: give {_SHAPES}", name)
    return Image.fromarray(np.ascontiguousarray(picture))
