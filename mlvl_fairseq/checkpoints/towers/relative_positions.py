"""Tables of relative positions for another window, as X-VLM and CCLM resample them (Zeng et al. 2022, 2023)."""

import math
from typing import List

import torch
from torch import Tensor

from mlvl_fairseq.errors import DataError

RATIOS = (1.01, 1.5)  # between which the ratio of distances is searched for
TOLERANCE = 1e-6
DEGREE = 3  # of the spline, which needs one point more along each side


def window_of(table: Tensor, path, field: str) -> int:
    """Height and width in patches of the window that a table [(2 window - 1)^2, heads] is of.

    Raises:
        DataError: it is no such table.
    """
    side = math.isqrt(len(table)) if table.dim() == 2 else 0
    if side % 2 == 0 or side**2 != len(table) or not table.shape[1]:
        message = f"tensor has shape {list(table.shape)}; a window of N patches has (2 N - 1)^2 relative positions"
        raise DataError(message, path, field=field)
    return (side + 1) // 2


def resize_relative(table: Tensor, window: int, path, field: str) -> Tensor:
    """A table for another window. What was known of distances 1, 2, 3, ... is taken for what is at distances that grow
    by a constant ratio up to those of the new window; bicubic splines through it give the numbers between.

    Args:
        table: [(2 w - 1)^2, heads]. window: height and width of the new one. path, field: of the table, for messages.

    Returns:
        [(2 window - 1)^2, heads]; the table itself where w is `window`.

    Raises:
        DataError: it is no table of a window, or of one too small.
    """
    own = window_of(table, path, field)
    if own == window:
        return table
    side = 2 * own - 1
    if side <= DEGREE:
        message = f"is of a window of {own} patches, too small to resample it: give a tower of that --image-window"
        raise DataError(message, path, field=field)
    from scipy.interpolate import RectBivariateSpline

    known = distances(side, 2 * window - 1)
    known = [-distance for distance in reversed(known)] + [0.0] + known
    wanted = list(range(1 - window, window))
    heads = []
    for values in table.detach().double().T:
        spline = RectBivariateSpline(known, known, values.reshape(side, side).numpy(), kx=DEGREE, ky=DEGREE)
        heads.append(torch.from_numpy(spline(wanted, wanted)).flatten())
    return torch.stack(heads, 1).to(table.dtype)


def distances(side: int, wanted: int) -> List[float]:
    """Where the distances 1, 2, ... ``side // 2`` of a table's side are laid: 1, 1 + q, 1 + q + q^2, ... with the q
    that lays the last of them at ``wanted // 2``, found by bisection."""
    low, high = RATIOS
    while high - low > TOLERANCE:
        ratio = (low + high) / 2
        if sum(ratio**power for power in range(side // 2)) > wanted // 2:
            high = ratio
        else:
            low = ratio
    return [sum(ratio**power for power in range(count)) for count in range(1, side // 2 + 1)]
