"""What a caption says, before it is said in a language: which sentence, and which group comes first."""

import random
from dataclasses import dataclass
from typing import List, Optional

from mlvl_fairseq.picture_world.scenes import INVERSE, Group, Scene

# Every language phrases every template, so that the k-th captions of a picture translate each other.
SINGLE_TEMPLATES = ("phrase", "picture", "exists", "place", "see")
PAIR_TEMPLATES = SINGLE_TEMPLATES + ("sides",)


@dataclass(frozen=True)
class CaptionPlan:
    """A template and what fills it: group ``a``, or groups ``a`` and ``b`` with the ``relation`` of ``a`` to ``b``."""

    template: str
    place: str
    a: Group
    b: Optional[Group] = None
    relation: Optional[str] = None


def plan_captions(scene: Scene, rng: random.Random, number: int) -> List[CaptionPlan]:
    """Plan ``number`` captions of a scene with different templates; a pair may be told from either side."""
    if scene.second is None:
        return [CaptionPlan(template, scene.place, scene.first) for template in rng.sample(SINGLE_TEMPLATES, number)]
    plans = []
    for template in rng.sample(PAIR_TEMPLATES, number):
        if rng.random() < 0.5:
            plans.append(CaptionPlan(template, scene.place, scene.first, scene.second, scene.relation))
        else:
            plans.append(CaptionPlan(template, scene.place, scene.second, scene.first, INVERSE[scene.relation]))
    return plans
