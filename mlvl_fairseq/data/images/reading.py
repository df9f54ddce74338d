"""Images from files: safe decoding, and what to do with files that do not decode."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Callable, NamedTuple, Optional, Sequence

import torch
from torch.utils.data import Dataset

from mlvl_fairseq.data.image_names import ImageFolder
from mlvl_fairseq.errors import DataError, UserError

if TYPE_CHECKING:
    from PIL import Image

logger = logging.getLogger(__name__)

# Raster formats only: Pillow hands others, such as EPS, to external programs. (JPEG includes MPO.)
IMAGE_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
MAX_PIXELS = 89_478_485  # where Pillow begins to warn of decompression bombs: 1/4 GiB as RGB
# CLIP resizes the shorter side, so that a strip of one pixel's height would grow without bounds.
MAX_ASPECT_RATIO = 200
BAD_IMAGE_ACTIONS = ("error", "skip")


def load_image(path, mode: Optional[str] = "RGB", max_pixels: int = MAX_PIXELS) -> "Image.Image":
    """Decode an image file; of an animation, the first frame.

    Args:
        path: image file.
        mode: Pillow mode to convert to; None keeps the file's own.
        max_pixels: largest width x height; checked before anything is decoded.

    Raises:
        DataError: the file is missing, no image of a common format, truncated, too large or too narrow.
    """
    from PIL import Image

    try:
        with Image.open(path, formats=IMAGE_FORMATS) as image:
            _check_size(image.width, image.height, max_pixels, path)
            image.load()
            return image.copy() if mode is None else image.convert(mode)
    except (FileNotFoundError, IsADirectoryError):
        raise DataError("no such image; check the image root", path) from None
    except DataError:
        raise
    except Exception as error:  # decoders fail on damaged files with almost anything
        raise DataError(f"cannot be decoded ({type(error).__name__}: {_reason(error)})", path) from None


def _check_size(width: int, height: int, max_pixels: int, path) -> None:
    if width * height > max_pixels:
        raise DataError(f"{width} x {height} pixels are more than the limit of {max_pixels}; scale it down", path)
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise DataError(f"{width} x {height} pixels: a side is over {MAX_ASPECT_RATIO} times the other; crop it", path)


def _reason(error: Exception) -> str:
    """Pillow puts the path, or even the address of a buffer, into some messages; the error names the file already."""
    message = str(error)
    return "not an image of a known format" if message.startswith("cannot identify image file") else message


class LoadedImage(NamedTuple):
    """One image of an `ImageDataset`: `pixels` are ``[3, H, W]``, or None with the `problem` that prevented them."""

    pixels: Optional[torch.Tensor]
    problem: Optional[str]


class ImageDataset(Dataset):
    """Images below a folder, by name, transformed.

    An image that cannot be loaded is returned as a problem instead of raised, so that it crosses process borders and
    whoever reads the data decides about it (`BadImagePolicy`).

    Args:
        root: folder that the names are relative to.
        names: image files.
        transform: from a Pillow image in the file's own mode to ``[3, H, W]``, e.g. an `ImageTransform`.
        max_pixels: see `load_image`.
        allow_outside: whether names may leave the folder.
    """

    def __init__(
        self,
        root,
        names: Sequence[str],
        transform: Callable[["Image.Image"], torch.Tensor],
        max_pixels: int = MAX_PIXELS,
        allow_outside: bool = False,
    ):
        self.root, self.folder, self.names = Path(root), ImageFolder(root, allow_outside), list(names)
        self.transform, self.max_pixels = transform, max_pixels

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> LoadedImage:
        try:
            image = load_image(self.folder.path(self.names[index]), mode=None, max_pixels=self.max_pixels)
            return LoadedImage(self.transform(image), None)
        except DataError as error:
            return LoadedImage(None, str(error))


@dataclass(frozen=True)
class BadImagePolicy:
    """What to do with images that cannot be loaded.

    Args:
        action: ``error`` stops at the first one; ``skip`` goes on without it.
        limit: with ``skip``, more bad images than this stop the work: then the folder is wrong, not an image.

    Raises:
        UserError: there is no such action.
    """

    action: str = "error"
    limit: int = 100

    def __post_init__(self) -> None:
        if self.action not in BAD_IMAGE_ACTIONS:
            raise UserError(f"--bad-image {self.action}: choose one of {', '.join(BAD_IMAGE_ACTIONS)}")

    def accept(self, problem: str, count: int) -> None:
        """Log the `count`-th bad image, or stop at it.

        Raises:
            DataError: the action is ``error``, or there are too many.
        """
        if self.action == "error":
            raise DataError(f"{problem} (--bad-image skip goes on without such images)")
        if count > self.limit:
            raise DataError(f"{problem} (bad image {count}; --max-bad-images allows {self.limit})")
        logger.warning("bad image %d (%d are allowed): %s", count, self.limit, problem)
