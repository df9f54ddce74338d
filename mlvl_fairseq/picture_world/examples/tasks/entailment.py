"""What a hypothesis is to a picture: entailed, contradicted, or neutral, in the form of XVNLI.

Every hypothesis stands beside three pictures, one of each label: its text alone says nothing about the label.
"""

import json
from typing import Iterator, List, Optional, Tuple

from mlvl_fairseq.picture_world.captions import PAIR_TEMPLATES, SINGLE_TEMPLATES
from mlvl_fairseq.picture_world.examples.base import (
    Example,
    ExampleTask,
    Shelf,
    in_turn,
    register_example_task,
    too_few,
)
from mlvl_fairseq.picture_world.examples.facts import COLOUR, FALSE, NUMBER, SIDE, TRUE, UNKNOWN, Claim, Shown

# form of the claim -> what a contradiction may lie in, in turn
WRONG = {"one": (COLOUR, NUMBER), "aside": (COLOUR, NUMBER, SIDE), "two": (COLOUR, NUMBER, SIDE)}
PLACE = "place"  # no claim is about it


@register_example_task("entailment")
class Entailment(ExampleTask):
    """JSON lines ``{"gold_label": "neutral", "sentence2": "There is a red star.", "Flikr30kID": "test/00001.png"}``."""

    train_suffix = suffix = ".jsonl"

    def draw(self, shelf, number):
        turns, forms = shelf.turns(), in_turn(list(WRONG))
        wrong = {form: in_turn(WRONG[form]) for form in WRONG}
        units = []
        for _ in range(max(len(WRONG), number // 3)):
            form = next(forms)
            units += _unit(shelf, turns, form, next(wrong[form]))
        return units

    def train_file(self, examples, language):
        return self.file(examples, language, "train")

    def file(self, examples, language, name):
        rows = (
            {
                "gold_label": example.answer,
                "sentence2": example.say(language),
                "Flikr30kID": example.pictures[0],
                "pairID": f"{name}-{number}-{example.form}",
            }
            for number, example in enumerate(examples)
        )
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _unit(shelf: Shelf, turns: Iterator[Tuple[str, Shown]], form: str, wanted: str) -> List[Example]:
    """A hypothesis that contradicts a picture in what is wanted, or, where no picture of the split is such, in another
    way."""
    for way in (wanted, *(other for other in WRONG[form] if other != wanted), None):
        for _ in shelf.names:
            name, there = next(turns)
            claim = _claim(shelf, form, there)
            if claim is None:
                continue
            about = shelf.rng.choice(((claim.a.kind,), (claim.b.kind,), ())) if claim.b else ()
            pictures = {TRUE: name, FALSE: shelf.denying(claim, way), UNKNOWN: shelf.silent(claim, about)}
            if None not in pictures.values():
                return [Example(form, claim.say, (picture,), label) for label, picture in pictures.items()]
    raise too_few("hypotheses")


def _claim(shelf: Shelf, form: str, there: Shown) -> Optional[Claim]:
    """Something that is true of a picture; None: a picture of one group has nothing to say in this form."""
    (a, side), *rest = shelf.rng.sample(list(there.values()), len(there))
    if form == "one":
        return Claim(a, template=_template(shelf, SINGLE_TEMPLATES))
    if not rest:
        return None
    return Claim(a, side) if form == "aside" else Claim(a, side, rest[0][0], _template(shelf, PAIR_TEMPLATES))


def _template(shelf: Shelf, templates: Tuple[str, ...]) -> str:
    return shelf.rng.choice([template for template in templates if template != PLACE])
