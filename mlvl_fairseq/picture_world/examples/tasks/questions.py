"""Questions about a picture, in the forms of GQA (with English answers) and xGQA (whose answers stay English).

All answers to a form of question are equally frequent, and where the pictures suffice all those to each text are, so
that a text alone does not tell its answer.
"""

import json
from functools import partial
from typing import Callable, Dict, Iterator, List, Optional, Sequence, Tuple

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
from mlvl_fairseq.picture_world.scenes import COLOURS, KINDS, Group
from mlvl_fairseq.picture_world.writing import json_list

SIDES = {"left": "left", "right": "right", "above": "top", "below": "bottom"}
COUNTS = ("one", "two", "three", "four")
ANSWERS: Dict[str, Sequence[str]] = {
    "colour": COLOURS, "count": COUNTS, "thing": KINDS, "side": tuple(SIDES.values()), "exists": ("yes", "no")
}  # fmt: skip
NO = (COLOUR, NUMBER, None, None)  # why there is no such group, in turn; None: there is no such thing
Text = Tuple
Say = Callable[[Language], str]
Where = Dict[Text, Dict[str, List[Tuple[str, Say]]]]


@register_example_task("questions")
class Questions(ExampleTask):
    """A list ``[{"img_id", "sent": "What colour is the star?", "label": {"red": 1.0}, "question_id"}, ...]`` in
    English, and a dictionary ``{id: {"question", "imageId", "answer"}, ...}``."""

    train_suffix = suffix = ".json"

    def draw(self, shelf, number):
        share = number / len(ANSWERS)
        drawn = []
        for form, answers in ANSWERS.items():
            units = max(1, round(share / len(answers)))
            drawn += _whether(shelf, units) if form == "exists" else _open(shelf, form, answers, units)
        return drawn

    def train_file(self, examples, language):
        return json_list(
            {
                "img_id": example.pictures[0],
                "label": {example.answer: 1.0},
                "question_id": f"train-{number}-{example.form}",
                "sent": example.say(language),
            }
            for number, example in enumerate(examples)
        )

    def file(self, examples, language, name):
        rows = {
            f"{name}-{number}-{example.form}": {
                "question": example.say(language),
                "imageId": example.pictures[0],
                "answer": example.answer,
            }
            for number, example in enumerate(examples)
        }
        lines = (f"{json.dumps(id)}: {json.dumps(row, ensure_ascii=False)}" for id, row in rows.items())
        return "{\n" + ",\n".join(lines) + "\n}\n"


def _asked(form: str, group: Group, side: Optional[str]) -> Optional[Tuple[Text, str]]:
    """What tells the texts of a form apart, in any language, and the answer; None: there is no such question.

    The number shows in words that agree with it: one, two or more.
    """
    number = min(group.count, 3)
    if form == "colour":
        return (group.kind, number), group.colour
    if form == "count":
        return (group.kind,), COUNTS[group.count - 1]
    if side is None:
        return None
    return ((group.kind, number), SIDES[side]) if form == "side" else ((side,), group.kind)


def _say(form: str, group: Group, side: Optional[str], language: Language) -> str:
    return language.question(form, group, side)


def _open(shelf: Shelf, form: str, answers: Sequence[str], units: int) -> List[Example]:
    """In each unit every answer once: to one text, if at least half of the texts have all answers in these pictures."""
    where: Where = {}
    for name, there in shelf.scenes.items():
        for group, side in there.values():
            found = _asked(form, group, side)
            if found:
                text, answer = found
                where.setdefault(text, {}).setdefault(answer, []).append((name, partial(_say, form, group, side)))
    if {answer for found in where.values() for answer in found} != set(answers):
        raise too_few(f"questions for the {form}")
    pictures = {(text, answer): _shuffled(shelf, ones) for text in where for answer, ones in where[text].items()}
    complete = [text for text in where if len(where[text]) == len(answers)]
    examples = []
    if 2 * len(complete) >= len(where):
        texts = _shuffled(shelf, complete)
        for text in (next(texts) for _ in range(units)):
            examples += [_example(form, answer, next(pictures[text, answer])) for answer in answers]
        return examples
    having = {answer: _shuffled(shelf, [text for text in where if answer in where[text]]) for answer in answers}
    for _ in range(units):
        examples += [_example(form, answer, next(pictures[next(having[answer]), answer])) for answer in answers]
    return examples


def _example(form: str, answer: str, found: Tuple[str, Say]) -> Example:
    name, say = found
    return Example(form, say, (name,), answer)


def _shuffled(shelf: Shelf, choices: Sequence) -> Iterator:
    return in_turn(shelf.rng.sample(choices, len(choices)))


def _whether(shelf: Shelf, units: int) -> List[Example]:
    """Each question beside a picture where the answer is yes and one where it is no."""
    turns, reasons, examples = shelf.turns(), in_turn(NO), []
    while len(examples) < 2 * units:
        reason = next(reasons)
        for way in (reason, None):
            found = next((one for one in (_yes_and_no(shelf, turns, way) for _ in shelf.names) if one), None)
            if found:
                break
        else:
            raise too_few("questions")
        examples += found
    return examples


def _yes_and_no(shelf: Shelf, turns, way: Optional[str]) -> List[Example]:
    yes, there = next(turns)
    group, _ = shelf.rng.choice(list(there.values()))
    claim = Claim(group, template="exists")
    no = shelf.denying(claim, way) if way else shelf.silent(claim, ())
    if no is None:
        return []
    say = partial(_say, "exists", group, None)
    return [Example("exists", say, (yes,), "yes"), Example("exists", say, (no,), "no")]
