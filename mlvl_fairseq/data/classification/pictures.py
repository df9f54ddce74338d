"""Where the pictures of a data set are: files below a folder, or pixels in one large array."""

from typing import Callable, List, Protocol, Sequence

import numpy as np
from torch.utils.data import Dataset

from mlvl_fairseq.data.images.reading import ImageDataset, LoadedImage, as_pixels


class Pictures(Protocol):
    """Opens pictures by name, one at a time."""

    def dataset(self, names: Sequence[str], transform: Callable) -> Dataset:
        """:class:`LoadedImage` of each name."""


class FolderPictures:
    """Image files below a folder; names are their paths from there."""

    def __init__(self, root):
        self.root = root

    def dataset(self, names: Sequence[str], transform: Callable) -> Dataset:
        return ImageDataset(self.root, names, transform)


class ArrayPictures:
    """Pictures of one file.

    Args:
        path: the file, for messages.
        parts: uint8 [n, H, W] grey or [n, H, W, 3], one after another; mapped into memory where they can be.
    """

    def __init__(self, path, *parts: np.ndarray):
        self.path, self.parts = path, parts
        self.ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, row: int) -> np.ndarray:
        part = int(np.searchsorted(self.ends, row, side="right"))
        return self.parts[part][row - self.ends[part]]  # counted from the part's end

    def names(self) -> List[str]:
        """A name for each row: ``000042``."""
        return [f"{row:06d}" for row in range(len(self))]

    def dataset(self, names: Sequence[str], transform: Callable) -> Dataset:
        return _ArrayDataset(self, [int(name) for name in names], transform)


class _ArrayDataset(Dataset):
    def __init__(self, pictures: ArrayPictures, rows: Sequence[int], transform: Callable):
        self.pictures, self.rows, self.transform = pictures, np.asarray(rows, np.int64), transform

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> LoadedImage:
        from PIL import Image

        row = self.rows[index]
        image = Image.fromarray(np.ascontiguousarray(self.pictures[row]))
        return as_pixels(image, self.transform, f"{self.pictures.path}: picture {row}")
