"""Grids of states that a frozen network gave for images, in place of pictures."""

from typing import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from mlvl_fairseq.data.feature_arrays import map_grids, read_row_names, rows_of_names, unusable_rows, what_is_wrong
from mlvl_fairseq.data.image_names import image_name
from mlvl_fairseq.data.images.reading import LoadedImage


class GridDataset(Dataset):
    """States of images that a frozen network gave, by row, in place of pictures.

    Args:
        npy_path: float16 or float32 array ``[n, positions, d]``. list_path: the name of each of its rows, one a line.
        names: images wanted, in any spelling.

    Raises:
        DataError: a file is missing or damaged, the two have different numbers of rows, or a wanted name is missing.
    """

    def __init__(self, npy_path, list_path, names: Sequence[str]):
        self.path, self.names, self.grids = npy_path, names, map_grids(npy_path)
        wanted = [image_name(name) for name in names]
        self.rows = rows_of_names(wanted, read_row_names(list_path), list_path, len(self.grids), npy_path)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> LoadedImage:
        grid = np.array(self.grids[self.rows[row]], np.float32)
        if unusable_rows(grid.reshape(1, -1))[0]:
            problem = what_is_wrong(grid.reshape(-1))
            return LoadedImage(None, f"{self.path}: the grid of {self.names[row]!r} {problem}")
        return LoadedImage(torch.from_numpy(grid))
