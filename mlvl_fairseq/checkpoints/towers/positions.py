"""Tables of positions for other pictures than those that a vision transformer was trained on."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from mlvl_fairseq.errors import DataError


def resize_positions(table: Tensor, leading: int, grid: int, path, field: str) -> Tensor:
    """The rows of a square of patches, interpolated for a square of another size as images are (bicubic, corners not
    aligned, no antialiasing), as DeiT and LilT do it.

    Args:
        table: [leading + n * n, width]. leading: rows in front that stay as they are. grid: patches along a side.
        path, field: of the table, for messages.

    Returns:
        [leading + grid * grid, width]; the table itself where n is `grid`.

    Raises:
        DataError: it is no table of a square of patches.
    """
    side = math.isqrt(max(len(table) - leading, 0)) if table.dim() == 2 else 0
    if not side or side**2 != len(table) - leading or not table.shape[1]:
        rows = f"{leading} row in front and a square of patches" if leading else "a square of patches"
        raise DataError(f"tensor has shape {list(table.shape)}; positions are {rows}", path, field=field)
    if side == grid:
        return table
    front, square = table[:leading], table[leading:].T.reshape(1, -1, side, side)
    square = F.interpolate(square, size=(grid, grid), mode="bicubic", align_corners=False)
    return torch.cat([front, square.flatten(2)[0].T])
