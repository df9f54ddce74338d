"""Streams of the picture world: boxes of what is drawn, phrases that fit one box, text that no picture shows."""

import base64
import json

import numpy as np
import pytest
from PIL import Image

from mlvl_fairseq.cli import picture_world as command
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.picture_world import (
    StreamSettings,
    WorldSettings,
    get_language,
    language_codes,
    plan_world,
    write_streams,
    write_world,
)
from mlvl_fairseq.picture_world.backgrounds import draw_background
from mlvl_fairseq.picture_world.captions import PAIR_TEMPLATES, SINGLE_TEMPLATES, CaptionPlan
from mlvl_fairseq.picture_world.drawing import bounding_box, draw_picture
from mlvl_fairseq.picture_world.layout import PlacedObject
from mlvl_fairseq.picture_world.scenes import INVERSE, KINDS, RELATIONS, Group
from mlvl_fairseq.picture_world.streams import parallel_scenes

SIZES = WorldSettings(seed=5, train=14, valid=6, test=6)
TWO = StreamSettings(["en", "de"], [("en", "de"), ("en", "cs")], parallel=30, monolingual=4)
LANGUAGES = ["en", "de", "cs", "qaf"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Written by the command."""
    folder = tmp_path_factory.mktemp("worlds") / "world"
    sizes = "--seed 5 --train 14 --valid 6 --test 6 --languages en,de,cs,qaf".split()
    streams = "--streams en,de --pairs en-de,en-cs --parallel 30 --monolingual 4".split()
    command.main([str(folder), *sizes, *streams])
    return folder


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def changed(path, place):
    """bool [64, 64]: where a picture is not its background."""
    with Image.open(path) as picture:
        return (np.array(picture) != np.array(draw_background(place, 64))).any(2)


# ---- boxes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_box_is_that_of_the_pixels_drawn(kind):
    """In front of the night, which has no colour of a thing's rim: nothing outside, something on each edge."""
    for shift in ((-1, 1), (0, 0), (1, -1)):
        item = PlacedObject(kind, "red", (2, 1), shift)
        drawn = (np.array(draw_picture("night", [item])) != np.array(draw_background("night", 64))).any(2)
        rows, columns = np.nonzero(drawn)
        x, y, width, height = bounding_box([item])
        assert (x, y) == (columns.min(), rows.min())
        assert (x + width - 1, y + height - 1) == (columns.max(), rows.max())


def test_pixels_outside_of_all_boxes_are_background_and_those_on_edges_are_not(world):
    shown = {picture.name: picture for pictures in plan_world(SIZES).values() for picture in pictures}
    for split in ("train", "valid", "test"):
        for row in lines(world / "streams" / split / "regions.jsonl"):
            picture = changed(world / "images" / row["image"], shown[row["image"]].scene.place)
            outside = np.ones((64, 64), bool)
            for x, y, width, height in (element["bb"] for element in row["elems"]):
                own = picture[y : y + height, x : x + width]
                assert own.shape == (height, width)
                assert all(edge.any() for edge in (own[0], own[-1], own[:, 0], own[:, -1]))
                outside[y : y + height, x : x + width] = False
            assert not picture[outside].any()


def test_elements_are_the_groups_of_a_picture_with_their_side(world):
    shown = {picture.name: picture.scene for picture in plan_world(SIZES)["test"]}
    english = get_language("en")
    for row in lines(world / "streams" / "test" / "regions.jsonl"):
        scene, said = shown[row["image"]], [element["caption"]["en"] for element in row["elems"]]
        groups = [group for group in (scene.first, scene.second) if group]
        assert said == [english.noun_phrase(group, "") for group in groups] and len(set(said)) == len(said)
        assert {frozenset(element["caption"]) for element in row["elems"]} == {frozenset(LANGUAGES)}
        if scene.second is None:
            assert "attributes" not in row["elems"][0]
            continue
        (first, second), axis = row["elems"], ("left", "above").index(scene.relation)
        assert first["bb"][axis] + first["bb"][axis + 2] <= second["bb"][axis]
        sides = {"left": ["on the left,", "on the right,"], "above": ["at the top,", "at the bottom,"]}
        assert [element["attributes"]["en"] for element in row["elems"]] == sides[scene.relation]


@pytest.mark.parametrize("code", language_codes())
def test_phrases_of_regions_are_those_of_sentences(code):
    """Alone as in the caption of one group, and behind the side as in the sentence of both."""
    language, a, b = get_language(code), Group("cat", "white", 3), Group("key", "red", 1)
    sentence = language.caption(CaptionPlan("phrase", "snow", a))
    assert sentence.casefold() == (language.named(a) + language.stop).casefold()
    for relation in RELATIONS:
        both = language.caption(CaptionPlan("sides", "snow", a, b, relation)).casefold().replace(" ", "")
        said = f"{language.side(relation)}{language.named(a)}".casefold().replace(" ", "")
        assert language.side(relation) and both.startswith(said)


# ---- lines ---------------------------------------------------------------------------------------------------------


def test_pictures_have_captions_of_their_languages_only_and_each_picture_its_stream(world):
    plans, streams = plan_world(SIZES), world / "streams"
    for split, left in (("train", 10), ("valid", 5)):
        rows = lines(streams / split / "image_text.jsonl")
        assert rows == [
            {
                "image": picture.name,
                "caption": [
                    {code: get_language(code).caption(plan) for code in ("en", "de")} for plan in picture.plans
                ],
            }
            for picture in plans[split][:left]
        ]
        assert [row["image"] for row in lines(streams / split / "regions.jsonl")] == [row["image"] for row in rows]
        assert lines(streams / split / "monolingual.jsonl") == [
            {"image": picture.name, "desc": [get_language("en").caption(plan) for plan in picture.plans]}
            for picture in plans[split][left:]
        ]


def test_parallel_text_tells_a_scene_in_each_pair_of_languages_in_turn(world):
    scenes = parallel_scenes(SIZES, TWO)
    for split, number in (("train", 30), ("valid", 3)):
        rows = lines(world / "streams" / split / "parallel.jsonl")
        assert len(rows) == number
        for scene, row, code in zip(scenes[split], rows, number * ["de", "cs"]):
            told = [CaptionPlan(template, scene.place, *scene.content) for template in PAIR_TEMPLATES]
            if scene.second is None:
                told = [CaptionPlan(template, scene.place, scene.first) for template in SINGLE_TEMPLATES]
            else:
                other_way = (scene.second, scene.first, INVERSE[scene.relation])
                told += [CaptionPlan(template, scene.place, *other_way) for template in PAIR_TEMPLATES]
            said = {get_language("en").caption(plan): get_language(code).caption(plan) for plan in told}
            assert said[row["source_text"]] == row["target_text"]


def test_nothing_of_a_large_parallel_text_is_in_a_picture():
    shown = {picture.scene.content for pictures in plan_world(WorldSettings()).values() for picture in pictures}
    scenes = parallel_scenes(WorldSettings(), StreamSettings(["en"], [("en", "de")], parallel=20000))
    told = [scene.content for split in scenes.values() for scene in split]
    assert len(told) == len(set(told)) == 22000 and not shown & set(told)


def test_the_command_writes_what_the_function_does_and_the_rest_of_a_world_is_the_same(world, tmp_path):
    folder = tmp_path / "world"
    write_world(folder, SIZES, LANGUAGES)
    before = contents(folder)
    assert len(write_streams(folder, SIZES, TWO, LANGUAGES)) == 9
    assert contents(folder) == contents(world) and before.items() <= contents(world).items()
    (folder / "streams" / "valid" / "regions.jsonl").unlink()
    assert [path.name for path in write_streams(folder, SIZES, TWO, LANGUAGES)] == ["regions.jsonl"]
    assert contents(folder) == contents(world)


def test_pictures_within_the_lines(world, tmp_path):
    folder = tmp_path / "world"
    write_world(folder, SIZES, ["en"])
    write_streams(folder, SIZES, StreamSettings(["en"], [], monolingual=2, binary=True), [])
    assert not list(folder.glob("streams/*/parallel.jsonl"))
    for name in ("train/image_text", "valid/monolingual", "test/regions"):
        found = lines(folder / "streams" / f"{name}.jsonl")
        names = [row.get("image") for row in lines(world / "streams" / f"{name}.jsonl")]
        assert not any(names) or all("image" not in row for row in found)
        pictures = plan_world(SIZES)[name.split("/")[0]]
        own = pictures[-len(found) :] if "monolingual" in name else pictures[: len(found)]
        for row, picture in zip(found, own, strict=True):
            assert base64.b64decode(row["binary"]) == (folder / "images" / picture.name).read_bytes()


def test_by_default_the_first_language_translates_into_all_others(tmp_path):
    arguments = "--train 3 --valid 2 --test 1 --languages en,cs,ru --streams en,de --parallel 9".split()
    command.main([str(tmp_path / "world"), *arguments])
    settings = json.loads((tmp_path / "world" / "streams" / "streams.json").read_text())
    assert settings["pairs"] == [["en", "de"], ["en", "cs"], ["en", "ru"]]
    rows = lines(tmp_path / "world" / "streams" / "train" / "parallel.jsonl")
    cyrillic = [any("а" <= letter <= "я" for letter in row["target_text"].lower()) for row in rows]
    assert cyrillic == [False, False, True] * 3


# ---- what bad input gets -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings, message",
    [
        (StreamSettings([], []), "need a language"),
        (StreamSettings(["tlh"], []), "does not speak 'tlh'"),
        (StreamSettings(["en"], [("de", "de")]), "parallel text of de and de: give two"),
        (StreamSettings(["en"], [("en", "de")], parallel=0), "parallel=0"),
        (StreamSettings(["en"], [], monolingual=14), "train has 14 pictures, at least one must be left"),
        (StreamSettings(["en"], [], monolingual=-1), "monolingual=-1"),
    ],
)
def test_impossible_streams_are_refused_before_anything_is_written(world, tmp_path, settings, message):
    with pytest.raises(UserError, match=message):
        write_streams(tmp_path, SIZES, settings, ["en"])
    assert not list(tmp_path.iterdir())


def test_other_streams_in_the_folder_and_a_damaged_manifest(world, tmp_path):
    with pytest.raises(UserError, match="holds other streams than those of"):
        write_streams(world, SIZES, StreamSettings(["en", "de"], TWO.pairs, parallel=31, monolingual=4), LANGUAGES)
    with pytest.raises(UserError, match="--pairs en:de: give two languages, as en-de"):
        command.main([str(tmp_path / "new"), "--languages", "en,de", "--streams", "en", "--pairs", "en:de"])
    assert not (tmp_path / "new").exists()
    (tmp_path / "streams").mkdir()
    (tmp_path / "streams" / "streams.json").write_text("[")
    with pytest.raises(DataError, match="delete the folder and write the streams again"):
        write_streams(tmp_path, SIZES, TWO, LANGUAGES)
