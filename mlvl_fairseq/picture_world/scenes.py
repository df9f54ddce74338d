"""What a picture shows: groups of equal objects, how two groups lie to each other, and where.

A scene says nothing about pixels (``layout.py``, ``drawing.py``) or words (``captions.py``, ``languages/``).
"""

import random
from dataclasses import dataclass
from typing import Dict, List, Optional, Set, Tuple

from mlvl_fairseq.errors import UserError

KINDS = (
    "star", "heart", "moon", "ball", "house", "tree", "flower", "apple",
    "fish", "cat", "bird", "boat", "car", "cup", "key", "umbrella",
)  # fmt: skip
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "white", "black")
PLACES = ("night", "grass", "beach", "snow", "water")
MAX_COUNT = 4

INVERSE = {"left": "right", "right": "left", "above": "below", "below": "above"}
RELATIONS = tuple(INVERSE)
# A scene is stored one way round only: "A left of B" and "B right of A" are the same picture.
STORED_RELATIONS = ("left", "above")

SINGLE_SHARE = 0.1  # of the pictures show one group only

GROUPS = len(KINDS) * len(COLOURS) * MAX_COUNT
GROUPS_OF_ONE_KIND = len(COLOURS) * MAX_COUNT
DISTINCT_SCENES = GROUPS + GROUPS * (GROUPS - GROUPS_OF_ONE_KIND) * len(STORED_RELATIONS)
# Scenes are drawn until they are new; up to a third of all, that takes less than two draws each.
MAX_PICTURES = DISTINCT_SCENES // 3


@dataclass(frozen=True)
class Group:
    """``count`` (1 to 4) objects of the same kind and colour."""

    kind: str
    colour: str
    count: int


@dataclass(frozen=True)
class Scene:
    """One group, or two groups of different kinds of which ``first`` is left of or above ``second``."""

    first: Group
    second: Optional[Group]
    relation: Optional[str]
    place: str

    @property
    def content(self) -> Tuple:
        """The scene without its place; no two pictures of a world share it."""
        return self.first, self.second, self.relation


def draw_scenes(seed: int, sizes: Dict[str, int]) -> Dict[str, List[Scene]]:
    """Draw ``sizes[split]`` scenes for every split; contents are distinct within and across the splits.

    Each split has a random stream of its own and splits are filled in the order of ``sizes``, so a split
    does not depend on the size of those after it.

    Raises:
        UserError: more pictures than the world has sufficiently different scenes.
    """
    total = sum(sizes.values())
    if total > MAX_PICTURES:
        raise UserError(f"{total} pictures asked for, but a picture world has at most {MAX_PICTURES}; ask for fewer")
    seen: Set[Tuple] = set()
    return {split: _draw_split(random.Random(f"{seed}/{split}/scenes"), size, seen) for split, size in sizes.items()}


def _draw_split(rng: random.Random, size: int, seen: Set[Tuple]) -> List[Scene]:
    scenes: List[Scene] = []
    while len(scenes) < size:
        scene = _draw_scene(rng)
        if scene.content not in seen:
            seen.add(scene.content)
            scenes.append(scene)
    return scenes


def _draw_scene(rng: random.Random) -> Scene:
    place = rng.choice(PLACES)
    if rng.random() < SINGLE_SHARE:
        return Scene(_draw_group(rng, rng.choice(KINDS)), None, None, place)
    first_kind, second_kind = rng.sample(KINDS, 2)
    return Scene(_draw_group(rng, first_kind), _draw_group(rng, second_kind), rng.choice(STORED_RELATIONS), place)


def _draw_group(rng: random.Random, kind: str) -> Group:
    return Group(kind, rng.choice(COLOURS), rng.randint(1, MAX_COUNT))
