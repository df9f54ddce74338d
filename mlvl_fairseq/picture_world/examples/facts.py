"""What a picture shows, and whether a claim about it is true.

A claim about a number is false only where more are claimed than there are: "a star" is no false word for two.
"""

from dataclasses import dataclass
from typing import Dict, FrozenSet, Optional, Tuple

from mlvl_fairseq.picture_world.captions import CaptionPlan
from mlvl_fairseq.picture_world.languages.base import Language
from mlvl_fairseq.picture_world.scenes import INVERSE, PLACES, Group, Scene

TRUE, FALSE, UNKNOWN = "entailment", "contradiction", "neutral"
COLOUR, NUMBER, SIDE = "colour", "number", "side"
Shown = Dict[str, Tuple[Group, Optional[str]]]


def shown(scene: Scene) -> Shown:
    """Kind -> the group of that kind, and the side on which it lies; a picture of one group has no sides."""
    if scene.second is None:
        return {scene.first.kind: (scene.first, None)}
    return {
        scene.first.kind: (scene.first, scene.relation),
        scene.second.kind: (scene.second, INVERSE[scene.relation]),
    }


@dataclass(frozen=True)
class Claim:
    """That there are one or two groups, and on which side of the picture, or of the second group, the first lies.

    Attributes:
        a, b: the groups, of different kinds. side: of `a`; with `b`, the relation of `a` to it.
        template: of the sentence, one that tells no place; None: :meth:`Language.aside`.
    """

    a: Group
    side: Optional[str] = None
    b: Optional[Group] = None
    template: Optional[str] = None

    def say(self, language: Language) -> str:
        """The sentence."""
        if self.template is None:
            return language.aside(self.a, self.side)
        return language.caption(CaptionPlan(self.template, PLACES[0], self.a, self.b, self.side))

    def judge(self, there: Shown) -> Tuple[Optional[str], FrozenSet[str]]:
        """What the claim is to a picture, and of a contradiction, what is wrong.

        A kind of things that the picture does not show makes it neutral: they may be outside of it. None: one could
        argue about it (fewer things are claimed than there are, or a side of the only things).
        """
        claimed = [group for group in (self.a, self.b) if group is not None]
        if any(group.kind not in there for group in claimed):
            return UNKNOWN, frozenset()
        found = [there[group.kind][0] for group in claimed]
        side = there[self.a.kind][1]
        wrong = set()
        if any(one.colour != other.colour for one, other in zip(claimed, found)):
            wrong.add(COLOUR)
        if any(one.count > other.count for one, other in zip(claimed, found)):
            wrong.add(NUMBER)
        if self.side is not None and side is not None and side != self.side:
            wrong.add(SIDE)
        if wrong:
            return FALSE, frozenset(wrong)
        return (TRUE if found == claimed and (self.side is None or side == self.side) else None), frozenset()
