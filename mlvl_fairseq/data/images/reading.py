"""Images from files: safe decoding, and what is to be said of files that do not decode, or show nothing."""

import io
import logging
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Callable, NamedTuple, Optional, Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from mlvl_fairseq.data.archives import archived
from mlvl_fairseq.data.image_names import ImageFolder
from mlvl_fairseq.data.images.transforms import WIDE_MODES
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.files import require_file

if TYPE_CHECKING:
    from PIL import Image

logger = logging.getLogger(__name__)

# Raster formats only: Pillow hands others, such as EPS, to external programs. (JPEG includes MPO.)
IMAGE_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
MAX_PIXELS = 89_478_485  # where Pillow begins to warn of decompression bombs: 1/4 GiB as RGB
# CLIP resizes the shorter side, so that a strip of one pixel's height would grow without bounds.
MAX_ASPECT_RATIO = 200
EXAMPLES = 3  # named in messages
# What Pillow warns of is an error here (too many pixels), or nothing to us (metadata).
warnings.filterwarnings("ignore", module=r"PIL\.")


def load_image(
    path, mode: Optional[str] = "RGB", max_pixels: int = MAX_PIXELS, least_side: Optional[int] = None
) -> "Image.Image":
    """Decode an image file; of an animation, the first frame.

    Args:
        path: image file, or a picture's place in an archive (:mod:`mlvl_fairseq.data.archives`).
        mode: Pillow mode to convert to; None keeps the file's own.
        max_pixels: largest width x height; checked before anything is decoded.
        least_side: a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size if its shorter side stays as long as this;
            None: it is decoded as it is.

    Raises:
        DataError: the file is missing, no regular file, no image of a common format, truncated, too large or too
            narrow.
    """
    found = archived(path)
    if found is not None:
        archive, name = found
        return decode_image(io.BytesIO(archive.read(name)), path, mode, max_pixels, least_side)
    _require_image_file(path)
    return decode_image(path, path, mode, max_pixels, least_side)


def decode_image(
    file, name, mode: Optional[str] = None, max_pixels: int = MAX_PIXELS, least_side: Optional[int] = None
) -> "Image.Image":
    """As :func:`load_image`, of a path or of an open file; `name`: how messages call it."""
    from PIL import Image

    try:
        with Image.open(file, formats=IMAGE_FORMATS) as image:
            check_size(image.width, image.height, max_pixels, name)
            if least_side is not None:
                image.draft(None, (least_side, least_side))  # does nothing where the format has no such thing
            image.load()
            return image.copy() if mode is None else image.convert(mode)
    except DataError:
        raise
    except Exception as error:  # decoders fail on damaged files with almost anything
        raise DataError(f"cannot be decoded ({type(error).__name__}: {_reason(error)})", name) from None


def _require_image_file(path) -> None:
    """Opening a pipe would wait for ever."""
    if not os.path.lexists(path) or os.path.isdir(path):
        raise DataError("no such image; check the image root", path)
    require_file(path)


def check_size(width: int, height: int, max_pixels: int, path) -> None:
    if width * height > max_pixels:
        raise DataError(f"{width} x {height} pixels are more than the limit of {max_pixels}; scale it down", path)
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise DataError(f"{width} x {height} pixels: a side is over {MAX_ASPECT_RATIO} times the other; crop it", path)


def _reason(error: Exception) -> str:
    """Pillow puts the path, or even the address of a buffer, into some messages; the error names the file already."""
    message = str(error)
    return "not an image of a known format" if message.startswith("cannot identify image file") else message


class LoadedImage(NamedTuple):
    """One image of an `ImageDataset`: `pixels` are ``[3, H, W]``, or None with the `problem` that prevented them. What
    shows nothing although it could be read has a `doubt`."""

    pixels: Optional[torch.Tensor]
    problem: Optional[str] = None
    doubt: Optional[str] = None


def read_image(path, transform: Callable[["Image.Image"], torch.Tensor], max_pixels: int = MAX_PIXELS) -> LoadedImage:
    """An image as pixels, and what is to be said of it; nothing is raised."""
    try:
        image = load_image(path, None, max_pixels, getattr(transform, "least_side", None))
    except DataError as error:
        return LoadedImage(None, str(error))
    return as_pixels(image, transform, path)


def as_pixels(image: "Image.Image", transform: Callable[["Image.Image"], torch.Tensor], path) -> LoadedImage:
    """A decoded image as :func:`read_image` gives it; `path`: how messages call it."""
    try:
        pixels = transform(image)
    except Exception as error:  # modes that Pillow reads and cannot convert
        reason = f"{type(error).__name__}: {error}"
        problem = DataError(f"cannot be made the network's input (mode {image.mode}; {reason})", path)
        return LoadedImage(None, str(problem))
    doubt = _doubt(image, pixels, getattr(transform, "high_bit_depth", "clip"))
    return LoadedImage(pixels, None, doubt and f"{path}: {doubt}")


def read_named(folder: ImageFolder, name: str, transform, max_pixels: int = MAX_PIXELS) -> LoadedImage:
    """:func:`read_image` of a picture below a folder."""
    try:
        path = folder.path(name)
    except DataError as error:
        return LoadedImage(None, str(error))
    return read_image(path, transform, max_pixels)


def _doubt(image: "Image.Image", pixels: torch.Tensor, high_bit_depth: str) -> Optional[str]:
    """Why a picture shows nothing: it is of one colour, or was more than 8 bits can say and is cut."""
    if image.mode in WIDE_MODES and high_bit_depth == "clip":
        values = np.nan_to_num(np.asarray(image, np.float64))
        if ((values < 0) | (values > 255)).mean() > 0.5 or values.max() - values.min() < 2:
            what = "floating point" if image.mode == "F" else "16-bit" if "16" in image.mode else "32-bit"
            return (
                f"{what} values from {values.min():g} to {values.max():g} are cut to 0 ... 255, which leaves (nearly) "
                "one colour; --high-bit-depth scale reads such pictures by their range"
            )
    flat = pixels.flatten(1)
    return "is of one colour" if bool((flat.amin(1) == flat.amax(1)).all()) else None


def tell_of_doubts(doubts: Sequence[str], count: int, images: int, name: str) -> None:
    """One warning of all pictures that show nothing.

    Args:
        doubts: of some of them. count: how many they are. images: how many were read. name: of what they belong to.
    """
    if count:
        examples = "; ".join(doubts[:EXAMPLES])
        logger.warning("%s: %d of %d pictures show (nearly) one colour only: %s", name, count, images, examples)


class ImageDataset(Dataset):
    """Images below a folder, by name, transformed.

    An image that cannot be loaded is returned as a problem instead of raised, so that it crosses process borders and
    whoever reads the data decides about it (`mlvl_fairseq.data.images.policy.BadImagePolicy`).

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
        return read_named(self.folder, self.names[index], self.transform, self.max_pixels)
