"""A world: the pictures of each split with everything that is drawn and said, before any file is written."""

import random
from dataclasses import dataclass
from typing import Dict, List, Sequence

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.picture_world.captions import CaptionPlan, plan_captions
from mlvl_fairseq.picture_world.layout import PlacedObject, place_objects
from mlvl_fairseq.picture_world.scenes import Scene, draw_scenes

CAPTIONS_PER_PICTURE = 2
# Drawn in this order: test and validation pictures stay the same when more training pictures are asked for.
SPLITS = ("test", "valid", "train")
# COCO's image ids are unique across its splits, so are these.
FIRST_IMAGE_ID = {"train": 0, "valid": 1_000_000, "test": 2_000_000}


@dataclass(frozen=True)
class WorldSettings:
    """All that a world depends on: the seed, and the number of pictures in each split."""

    seed: int = 1
    train: int = 3000
    valid: int = 300
    test: int = 300


@dataclass(frozen=True)
class Picture:
    """A scene as it is drawn and told; ``name`` is relative to the folder of images."""

    name: str
    image_id: int
    scene: Scene
    objects: Sequence[PlacedObject]
    plans: Sequence[CaptionPlan]


def plan_world(settings: WorldSettings) -> Dict[str, List[Picture]]:
    """The pictures of each split; no two of them show the same.

    Raises:
        UserError: an empty split, or more pictures than there are scenes.
    """
    sizes = {split: getattr(settings, split) for split in SPLITS}
    for split, size in sizes.items():
        if size < 1:
            raise UserError(f"{split}={size}: every split needs at least one picture")
    scenes = draw_scenes(settings.seed, sizes)
    return {
        split: [_plan_picture(settings.seed, split, index, scene) for index, scene in enumerate(scenes[split])]
        for split in SPLITS
    }


def _plan_picture(seed: int, split: str, index: int, scene: Scene) -> Picture:
    # Seeding with a string is the same in every process (random hashes it with SHA-512, not with hash()).
    rng = random.Random(f"{seed}/{split}/{index}")
    return Picture(
        name=f"{split}/{index:05d}.png",
        image_id=FIRST_IMAGE_ID[split] + index,
        scene=scene,
        objects=place_objects(scene, rng),
        plans=plan_captions(scene, rng, CAPTIONS_PER_PICTURE),
    )
