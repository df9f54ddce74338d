"""Statements about two pictures, true or false, in the forms of NLVR2 and MaRVL.

Every statement stands beside two pairs of pictures, of one of which it is true: its text alone says nothing.
"""

import json
from functools import partial
from typing import List, Optional, Tuple

from mlvl_fairseq.picture_world.examples.base import (
    Example,
    ExampleTask,
    Shelf,
    in_turn,
    register_example_task,
    too_few,
)
from mlvl_fairseq.picture_world.examples.facts import COLOUR, NUMBER, Claim
from mlvl_fairseq.picture_world.languages.base import Language
from mlvl_fairseq.picture_world.scenes import Group
from mlvl_fairseq.picture_world.writing import json_list

FORMS = ("left", "right", "both", "one")  # which of two pictures a group is said to be in
OTHERWISE = (COLOUR, NUMBER, None, None)  # how a picture is that has not got it, in turn; None: it has no such thing
Pair = Tuple[str, str]


@register_example_task("statements")
class Statements(ExampleTask):
    """A list ``[{"sentence", "label": "True", "images": [left, right]}, ...]`` in English, and JSON lines ``{"concept",
    "language", "caption", "left_img", "right_img", "label": true}``."""

    train_suffix, suffix = ".json", ".jsonl"

    def draw(self, shelf, number):
        turns, forms, otherwise = shelf.turns(), in_turn(FORMS), in_turn(OTHERWISE)
        units: List[Example] = []
        for _ in range(max(len(FORMS), number // 2)):
            units += _unit(shelf, turns, next(forms), next(otherwise))
            # A round of forms has another way each time.
            if len(units) % (2 * len(FORMS)) == 0:
                next(otherwise)
        return units

    def train_file(self, examples, language):
        return json_list(
            {
                "sentence": example.say(language),
                "label": example.answer,
                "images": list(example.pictures),
                "id": f"train-{number}-{example.form}",
            }
            for number, example in enumerate(examples)
        )

    def file(self, examples, language, name):
        rows = (
            {
                "concept": example.form,
                "language": language.code,
                "caption": example.say(language),
                "left_img": example.pictures[0],
                "right_img": example.pictures[1],
                "label": example.answer == "True",
                "id": f"{name}-{number}-{example.form}",
            }
            for number, example in enumerate(examples)
        )
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _unit(shelf: Shelf, turns, form: str, otherwise: Optional[str]) -> List[Example]:
    for way in (otherwise, None):
        for _ in shelf.names:
            name, there = next(turns)
            group, _ = shelf.rng.choice(list(there.values()))
            claim = Claim(group, template="exists")
            without = shelf.denying(claim, way) if way else shelf.silent(claim, ())
            pairs = without and _pairs(shelf, form, claim, name, without)
            if pairs:
                say = partial(_say, form, group)
                return [Example(form, say, pair, label) for label, pair in zip(("True", "False"), pairs)]
    raise too_few("statements")


def _pairs(shelf: Shelf, form: str, claim: Claim, having: str, without: str) -> Optional[Tuple[Pair, Pair]]:
    """A pair of pictures of which the statement is true, and one of which it is false; None: there are none."""
    if form == "left":
        return (having, without), (without, having)
    if form == "right":
        return (without, having), (having, without)
    second = shelf.showing(claim, besides=having)
    if second is None:
        return None
    two = (having, second)
    one = shelf.rng.choice(((having, without), (without, having)))
    return (two, one) if form == "both" else (one, two)


def _say(form: str, group: Group, language: Language) -> str:
    return language.statement(form, group)
