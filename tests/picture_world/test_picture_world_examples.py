"""Examples of the picture world: labels are what pictures show, texts alone do not tell them, and readers read them.

What is true is found again here, from the English text and the scene."""

import json
import random
import re
from collections import Counter, defaultdict

import pytest

from mlvl_fairseq.cli import picture_world as command
from mlvl_fairseq.data.examples import ExampleImageOptions, ExampleImages, read_examples
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.picture_world import ExampleSettings, WorldSettings, get_language, plan_world, write_examples
from mlvl_fairseq.picture_world.examples import EXAMPLE_TASKS, draw_examples
from mlvl_fairseq.picture_world.examples.base import Shelf
from mlvl_fairseq.picture_world.languages.en import PLURALS
from mlvl_fairseq.picture_world.scenes import COLOURS, INVERSE, KINDS

SIZES = WorldSettings(seed=5, train=500, valid=70, test=90)
SETTINGS = ExampleSettings(train=240, few=24)
LANGUAGES = ["en", "de", "ar", "qaf"]
ENGLISH = get_language("en")
NUMBERS = {"a": 1, "an": 1, "two": 2, "three": 3, "four": 4}
NOUNS = {**{kind: kind for kind in KINDS}, **{plural: kind for kind, (plural,) in PLURALS.items()}}
GROUP = re.compile(rf"\b({'|'.join(NUMBERS)}) ({'|'.join(COLOURS)}) ({'|'.join(NOUNS)})\b")
SIDES = {"on the left": "left", "on the right": "right", "at the top": "above", "at the bottom": "below"}


@pytest.fixture(scope="module")
def drawn():
    return draw_examples(SIZES, SETTINGS)


@pytest.fixture(scope="module")
def shown():
    """Name of a picture -> kind -> (number, colour, side)."""
    found = {}
    for pictures in plan_world(SIZES).values():
        for picture in pictures:
            scene = picture.scene
            sides = (scene.relation, INVERSE.get(scene.relation))
            groups = [group for group in (scene.first, scene.second) if group]
            found[picture.name] = {one.kind: (one.count, one.colour, side) for one, side in zip(groups, sides)}
    return found


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Written by the function; of pictures there are the names."""
    folder = tmp_path_factory.mktemp("worlds") / "world"
    for pictures in plan_world(SIZES).values():
        for picture in pictures:
            path = folder / "images" / picture.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    write_examples(folder, SIZES, SETTINGS, LANGUAGES)
    return folder


def groups(text):
    return [(NOUNS[noun], NUMBERS[number], colour) for number, colour, noun in GROUP.findall(text.lower())]


def lacking(claimed, picture):
    """Whether a picture has other things of the kinds: None where it has none of one kind."""
    if any(kind not in picture for kind, _, _ in claimed):
        return None
    return any(colour != picture[kind][1] or number > picture[kind][0] for kind, number, colour in claimed)


def exactly(claimed, picture):
    return all(kind in picture and picture[kind][:2] == (number, colour) for kind, number, colour in claimed)


def splits(drawn, task):
    return ((split, examples) for split, examples in drawn[task].items() if not split.endswith("parallel"))


# ---- what is true --------------------------------------------------------------------------------------------------


def told_side(text):
    """Of the first group: where it lies in the picture, or how to the second."""
    text = text.lower()
    for words, side in SIDES.items():
        if text.startswith(words):
            return side
    found = re.search(r"(and )?\b(left of|right of|above|below)\b", text)
    if not found:
        return None
    side = found[2].removesuffix(" of")
    # "there is A, and to the left of it B"
    return INVERSE[side] if "and " in text else side


def test_labels_of_hypotheses_are_what_pictures_show(drawn, shown):
    seen = Counter()
    for split, examples in splits(drawn, "entailment"):
        for example in examples:
            text, (name,) = example.say(ENGLISH), example.pictures
            claimed, side, picture = groups(text), told_side(text), shown[name]
            assert name.startswith("train/" if split == "few" else f"{split}/") and len(claimed) in (1, 2)
            lacks = lacking(claimed, picture)
            elsewhere = lacks is not None and side is not None and picture[claimed[0][0]][2] not in (None, side)
            if example.answer == "neutral":
                assert lacks is None
            elif example.answer == "contradiction":
                assert lacks or elsewhere
                seen[example.form, lacks, elsewhere] += 1
            else:
                assert exactly(claimed, picture) and (side is None or picture[claimed[0][0]][2] == side)
    assert all(seen[form, True, False] > 8 for form in ("one", "aside", "two")) and seen["aside", False, True] > 8
    assert not seen["aside", True, True]  # wrong in one thing only, if pictures suffice


def test_answers_to_questions_are_what_pictures_show(drawn, shown):
    places = {"left": "left", "right": "right", "above": "top", "below": "bottom"}
    for _, examples in splits(drawn, "questions"):
        for example in examples:
            text, picture = example.say(ENGLISH).lower(), shown[example.pictures[0]]
            kinds = [NOUNS[word] for word in re.findall(r"\w+", text) if word in NOUNS]
            if example.form == "exists":
                claimed = groups(text)
                assert exactly(claimed, picture) if example.answer == "yes" else lacking(claimed, picture) is not False
            elif example.form == "thing":
                (side,) = [side for words, side in SIDES.items() if words in text]
                assert picture[example.answer][2] == side
            else:
                number, colour, side = picture[kinds[0]]
                count = ["one", "two", "three", "four"][number - 1]
                assert {"colour": colour, "count": count, "side": places.get(side)}[example.form] == example.answer


def test_labels_of_statements_are_what_both_pictures_show(drawn, shown):
    for _, examples in splits(drawn, "statements"):
        for example in examples:
            text = example.say(ENGLISH)
            claimed, pair = groups(text), [shown[name] for name in example.pictures]
            assert len(set(example.pictures)) == 2
            has = [exactly(claimed, picture) for picture in pair]
            assert all(has[i] or lacking(claimed, picture) is not False for i, picture in enumerate(pair))
            truth = {"left": has[0], "right": has[1], "both": all(has), "exactly one": has[0] != has[1]}
            (which,) = [words for words in truth if f" {words} picture" in text]
            assert example.answer == str(truth[which])


# ---- what a text alone tells ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", LANGUAGES)
@pytest.mark.parametrize("task, labels", [("entailment", 3), ("statements", 2)])
def test_every_text_has_every_label_equally_often(drawn, task, labels, code):
    for _, examples in splits(drawn, task):
        by_text = defaultdict(Counter)
        for example in examples:
            by_text[example.say(get_language(code))][example.answer] += 1
        assert all(len(found) == labels and len(set(found.values())) == 1 for found in by_text.values())


def test_every_form_of_question_has_every_answer_equally_often_and_most_texts_do(drawn):
    sizes = {"colour": 8, "count": 4, "thing": 16, "side": 4, "exists": 2}
    for _, examples in splits(drawn, "questions"):
        by_form = defaultdict(Counter)
        for example in examples:
            by_form[example.form][example.answer] += 1
        assert {form: len(found) for form, found in by_form.items()} == sizes
        assert all(len(set(found.values())) == 1 for found in by_form.values())
    by_text = defaultdict(Counter)
    for example in drawn["questions"]["train"]:
        if example.form in ("count", "thing", "side", "exists"):
            by_text[example.form, example.say(get_language("ar"))][example.answer] += 1
    assert all(len(found) == sizes[form] and len(set(found.values())) == 1 for (form, _), found in by_text.items())


def test_where_each_text_can_have_each_answer_it_has():
    """3000 pictures suffice for all forms."""
    shelf = Shelf(plan_world(WorldSettings(train=3000, valid=1, test=1))["train"], random.Random(1))
    examples = EXAMPLE_TASKS["questions"].draw(shelf, 60)
    by_text = defaultdict(Counter)
    for example in examples:
        by_text[example.form, example.say(ENGLISH)][example.answer] += 1
    assert {form for form, _ in by_text} == {"colour", "count", "thing", "side", "exists"}
    for (form, _), found in by_text.items():
        assert len(found) == {"colour": 8, "count": 4, "thing": 16, "side": 4, "exists": 2}[form]
        assert len(set(found.values())) == 1


def test_splits_have_their_sizes_and_pictures(drawn):
    for task, unit in (("entailment", 9), ("questions", 34), ("statements", 8)):
        sizes = {split: len(examples) for split, examples in drawn[task].items()}
        for split, wanted in (("train", 240), ("valid", 24), ("test", 24), ("few", 24), ("valid/parallel", 24)):
            assert wanted - unit < sizes[split] < wanted + unit, (task, split)
        for split, examples in drawn[task].items():
            own = split.split("/")[0].replace("few", "train")
            assert all(name.startswith(f"{own}/") for example in examples for name in example.pictures)


# ---- files ---------------------------------------------------------------------------------------------------------


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("task, formats", [
    ("entailment", ("xvnli", "xvnli")), ("questions", ("gqa", "xgqa")), ("statements", ("nlvr2", "marvl")),
])  # fmt: skip
def test_readers_read_every_file_as_it_was_drawn(world, drawn, task, formats):
    images = ExampleImages(ExampleImageOptions(image_root=str(world / "images")))
    files = {path.stem: path for path in (world / "examples" / task).iterdir()}
    others = [f"{split}.{code}" for split in ("valid", "test") for code in LANGUAGES]
    assert set(files) == {"train.en", *others, *(f"few.{code}" for code in LANGUAGES[1:])}
    for name, path in files.items():
        split, code = name.split(".")
        found = read_examples(str(path), images, on_problem="error")
        assert found.format == formats[split != "train"]
        expected = drawn[task][split]
        assert [(e.text, e.images, e.label or e.answer) for e in found.examples] == [
            (e.say(get_language(code)), e.pictures, e.answer) for e in expected
        ]
        assert [e.id.rpartition("-")[2] for e in found.examples] == [e.form for e in expected]
        if task == "statements" and split != "train":
            assert {e.lang for e in found.examples} == {code}


def test_parallel_text_says_each_text_once_with_its_translation(world, drawn):
    rows = [json.loads(line) for line in (world / "examples/parallel/train.en-de.jsonl").read_text().splitlines()]
    said = [e for task in drawn.values() for e in task["train/parallel"]]
    pairs = dict.fromkeys((e.say(ENGLISH), e.say(get_language("de"))) for e in said)
    assert [(row["source_text"], row["target_text"]) for row in rows] == list(pairs)
    assert any(row["target_text"].endswith("?") for row in rows)


def test_the_command_adds_examples_to_a_world_that_stays_the_same(tmp_path):
    arguments = [str(tmp_path / "world"), *"--seed 5 --train 300 --valid 60 --test 60 --languages en,de".split()]
    command.main(arguments)
    before = contents(tmp_path / "world")
    command.main([*arguments, "--examples", "40", "--few", "8"])
    after = contents(tmp_path / "world")
    assert before.items() <= after.items() and {name.split("/")[0] for name in set(after) - set(before)} == {"examples"}
    settings = ExampleSettings(40, 8)
    other = tmp_path / "other"
    write_examples(other, WorldSettings(5, 300, 60, 60), settings, ["de"])  # a language may be added later
    assert not (other / "examples" / "questions" / "test.en.json").exists()
    write_examples(other, WorldSettings(5, 300, 60, 60), settings, ["en", "de"])
    assert contents(other / "examples") == contents(tmp_path / "world" / "examples")
    assert not write_examples(other, WorldSettings(5, 300, 60, 60), settings, ["en", "de"])


# ---- what bad input gets -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings, sizes, message", [
    (ExampleSettings(0, 1), SIZES, "examples=0, few=1: give numbers of examples"),
    (ExampleSettings(1, 0), SIZES, "examples=1, few=0: give numbers of examples"),
    (ExampleSettings(9, 9), WorldSettings(5, 3, 2, 2), "too few pictures for"),
])  # fmt: skip
def test_impossible_examples_are_refused_before_anything_is_written(tmp_path, settings, sizes, message):
    with pytest.raises(UserError, match=message):
        write_examples(tmp_path, sizes, settings, ["en"])
    assert not list(tmp_path.iterdir())


def test_other_examples_in_the_folder_and_a_damaged_manifest(world, tmp_path):
    with pytest.raises(UserError, match="holds other examples than those of"):
        write_examples(world, SIZES, ExampleSettings(240, 30), LANGUAGES)
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "examples.json").write_text("[")
    with pytest.raises(DataError, match="delete the folder and write the examples again"):
        write_examples(tmp_path, SIZES, SETTINGS, LANGUAGES)
