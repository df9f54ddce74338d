"""Where the objects of a scene go: one grid cell each, so that an object never crosses a ViT patch border."""

import random
from dataclasses import dataclass
from itertools import product
from typing import List, Sequence, Tuple

from mlvl_fairseq.picture_world.scenes import Group, Scene

GRID = 4  # cells per side
Cell = Tuple[int, int]  # (column, row), from the top left

ALL_CELLS: Tuple[Cell, ...] = tuple(product(range(GRID), repeat=2))
_AXIS = {"left": 0, "above": 1}


@dataclass(frozen=True)
class PlacedObject:
    """One object in its cell; ``shift`` moves it by -1, 0 or 1 sixteenth of a cell across and down."""

    kind: str
    colour: str
    cell: Cell
    shift: Tuple[int, int]


def place_objects(scene: Scene, rng: random.Random) -> List[PlacedObject]:
    """Choose a cell and a small shift for each object of the scene.

    The groups of a pair fill opposite halves of the grid, and lie further apart along the axis of their relation
    than across it: nobody should have to wonder whether "above" or "left of" was meant.
    """
    if scene.second is None:
        return _place_group(scene.first, rng.sample(ALL_CELLS, scene.first.count), rng)
    axis = _AXIS[scene.relation]
    near = [cell for cell in ALL_CELLS if cell[axis] < GRID // 2]
    far = [cell for cell in ALL_CELLS if cell[axis] >= GRID // 2]
    while True:
        first = rng.sample(near, scene.first.count)
        second = rng.sample(far, scene.second.count)
        if _apart_along(axis, first, second):
            return _place_group(scene.first, first, rng) + _place_group(scene.second, second, rng)


def _apart_along(axis: int, first: Sequence[Cell], second: Sequence[Cell]) -> bool:
    along, across = (abs(_centre(second, a) - _centre(first, a)) for a in (axis, 1 - axis))
    return along >= 2 * across


def _centre(cells: Sequence[Cell], axis: int) -> float:
    return sum(cell[axis] for cell in cells) / len(cells)


def _place_group(group: Group, cells: Sequence[Cell], rng: random.Random) -> List[PlacedObject]:
    return [PlacedObject(group.kind, group.colour, cell, (rng.randint(-1, 1), rng.randint(-1, 1))) for cell in cells]
