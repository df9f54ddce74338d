"""Boxes of parts of pictures: what of a picture is shown, where boxes are then, and which patches they cover."""

import math
from typing import Any, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch

WHOLE = (0.5, 0.5, 1.0, 1.0)
_FARTHEST = 1e9  # pixels


class Box(NamedTuple):
    """Left and top edge, width and height, in pixels."""

    x: float
    y: float
    width: float
    height: float

    @property
    def area(self) -> float:
        return self.width * self.height


class Cut(NamedTuple):
    """What is shown of a picture: left, top, right, bottom in pixels, and whether it is mirrored."""

    left: int
    top: int
    right: int
    bottom: int
    mirrored: bool = False


def is_length(value: Any) -> bool:
    """Whether it is a number of pixels; far beyond what a picture has, numbers would overflow."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= _FARTHEST


def goes_over(box: Box, width: float, height: float) -> bool:
    """Whether something of a box is outside a picture."""
    return min(box.x, box.y) < 0 or box.x + box.width > width or box.y + box.height > height


def within(box: Box, width: float, height: float) -> Optional[Box]:
    """What of a box is inside a picture; None: nothing."""
    left, top = max(0, box.x), max(0, box.y)
    right, bottom = min(width, box.x + box.width), min(height, box.y + box.height)
    return Box(left, top, right - left, bottom - top) if right > left and bottom > top else None


def draw_cut(anchor: Box, size: Tuple[int, int], generator: np.random.Generator) -> Cut:
    """A part of a picture that shows a box whole (X-VLM, Zeng et al. 2022): each edge is drawn between the box's and
    the picture's. `size`: width and height of the picture; the box is inside."""
    width, height = size
    left = generator.integers(0, math.floor(anchor.x), endpoint=True)
    top = generator.integers(0, math.floor(anchor.y), endpoint=True)
    right = generator.integers(min(math.ceil(anchor.x + anchor.width), width), width, endpoint=True)
    bottom = generator.integers(min(math.ceil(anchor.y + anchor.height), height), height, endpoint=True)
    return Cut(int(left), int(top), int(right), int(bottom))


def visible(box: Box, cut: Cut, size: float) -> Tuple[float, Optional[Box]]:
    """Which share of a box is seen, and what of it, in pixels of what is shown when that is `size` high and wide; None:
    nothing."""
    width, height = cut.right - cut.left, cut.bottom - cut.top
    seen = within(Box(box.x - cut.left, box.y - cut.top, box.width, box.height), width, height)
    if seen is None:
        return 0.0, None
    x = width - seen.x - seen.width if cut.mirrored else seen.x
    scaled = Box(x * size / width, seen.y * size / height, seen.width * size / width, seen.height * size / height)
    return seen.area / box.area, scaled


def target(box: Box, size: float) -> Tuple[float, float, float, float]:
    """Centre, width and height of a box in shares of a picture that is `size` high and wide."""
    return (box.x + box.width / 2) / size, (box.y + box.height / 2) / size, box.width / size, box.height / size


def covered(box: Sequence[float], patch: float, side: int) -> torch.Tensor:
    """bool [side * side], row by row: the patches that a box touches, one at least in each direction.

    Args:
        box: left, top, width and height in pixels. patch: height and width of a patch in pixels. side: patches a row.
    """
    x, y, width, height = box
    columns, rows = _range(x, width, patch, side), _range(y, height, patch, side)
    grid = torch.zeros(side, side, dtype=torch.bool)
    grid[rows, columns] = True
    return grid.flatten()


def _range(start: float, length: float, patch: float, side: int) -> slice:
    first = min(math.floor(start / patch), side - 1)
    last = min(max(math.ceil((start + length) / patch), first + 1), side)
    return slice(first, last)
