"""Pictures that are files below a folder: what the sources of folders, lists and corpora share."""

import logging
from typing import TYPE_CHECKING, Callable, List, Sequence

import numpy as np

from mlvl_fairseq.data.archives import stamp_of
from mlvl_fairseq.data.image_names import ImageFolder
from mlvl_fairseq.search.sources.base import NO_FILE, Source

if TYPE_CHECKING:
    from PIL import Image

    from mlvl_fairseq.data.images.reading import ImageDataset

logger = logging.getLogger(__name__)


class FileSource(Source):
    """A source of files; names are paths from :meth:`root`."""

    allow_outside = False  # whether names may leave the root

    def root(self) -> str:
        """The folder that names start from."""
        return str(self.path)

    def stamps(self, names: Sequence[str]) -> np.ndarray:
        folder, stamps = ImageFolder(self.root(), self.allow_outside), np.full((len(names), 2), NO_FILE, np.int64)
        for row, name in enumerate(names):
            try:
                stamps[row] = stamp_of(folder.path(name))
            except OSError:
                continue
        return stamps

    def dataset(self, names: Sequence[str], transform: Callable) -> "ImageDataset":
        from mlvl_fairseq.data.images.reading import ImageDataset

        return ImageDataset(self.root(), names, transform, allow_outside=self.allow_outside)

    def picture(self, name: str, max_pixels: int) -> "Image.Image":
        from mlvl_fairseq.data.images.reading import load_image

        return load_image(ImageFolder(self.root(), self.allow_outside).path(name), None, max_pixels)


def storable(names: Sequence[str], source) -> List[str]:
    """Names that a line of UTF-8 can hold; how many others were left out is told."""
    kept = [name for name in names if name.isprintable() or not _breaks_a_line(name)]
    if len(kept) < len(names):
        logger.warning(
            "%s: %d pictures are left out: their names are not UTF-8 or hold line ends", source, len(names) - len(kept)
        )
    return kept


def _breaks_a_line(name: str) -> bool:
    return any(character in "\n\r\0" or "\ud800" <= character <= "\udfff" for character in name)
