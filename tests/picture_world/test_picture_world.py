"""The picture world: distinct scenes, unmistakable pictures, and files that others can read."""

import json
import os
import random
import re
import subprocess
import sys
from itertools import combinations, product

import numpy as np
import pytest
from PIL import Image

from mlvl_fairseq.cli import picture_world as command
from mlvl_fairseq.cli.common import run
from mlvl_fairseq.data.captions import read_captions
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.picture_world import WorldSettings, get_language, language_codes, plan_world, write_world
from mlvl_fairseq.picture_world.backgrounds import BACKGROUNDS, draw_background
from mlvl_fairseq.picture_world.drawing import CELL, draw_picture, draw_sticker
from mlvl_fairseq.picture_world.layout import GRID, PlacedObject, place_objects
from mlvl_fairseq.picture_world.palette import PAINTS
from mlvl_fairseq.picture_world.scenes import COLOURS, KINDS, MAX_PICTURES, PLACES, draw_scenes
from mlvl_fairseq.picture_world.shapes import SHAPES

SMALL = WorldSettings(seed=7, train=12, valid=5, test=4)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("worlds") / "world"
    write_world(folder, SMALL)
    return folder


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def read_json(path):
    return json.loads(path.read_text(encoding="utf-8"))


# ---- scenes and splits ---------------------------------------------------------------------------------------------


def test_no_two_pictures_of_a_world_show_the_same():
    world = plan_world(WorldSettings())
    assert {split: len(pictures) for split, pictures in world.items()} == {"train": 3000, "valid": 300, "test": 300}
    shown = [picture.scene.content for pictures in world.values() for picture in pictures]
    assert len(set(shown)) == 3600
    # the same pair told from the other side would be the same picture: only "left" and "above" are stored
    assert {relation for _, _, relation in shown} == {"left", "above", None}


def test_test_pictures_do_not_depend_on_the_number_of_training_pictures():
    small, large = plan_world(SMALL), plan_world(WorldSettings(seed=7, train=40, valid=5, test=4))
    assert small["test"] == large["test"] and small["valid"] == large["valid"]
    assert plan_world(WorldSettings(seed=8, train=12, valid=5, test=4))["test"] != small["test"]


def test_large_worlds_use_every_kind_colour_count_place_and_relation():
    scenes = draw_scenes(1, {"train": 2000})["train"]
    groups = [group for scene in scenes for group in (scene.first, scene.second) if group]
    assert {g.kind for g in groups} == set(KINDS) and {g.colour for g in groups} == set(COLOURS)
    assert {g.count for g in groups} == {1, 2, 3, 4} and {scene.place for scene in scenes} == set(PLACES)
    assert 0.07 < np.mean([scene.second is None for scene in scenes]) < 0.13


# ---- pictures ------------------------------------------------------------------------------------------------------


def test_everything_there_is_can_be_drawn():
    assert set(SHAPES) == set(KINDS) and set(PAINTS) == set(COLOURS) and set(BACKGROUNDS) == set(PLACES)


def test_related_groups_lie_in_opposite_halves_and_mainly_along_their_axis():
    for number, scene in enumerate(draw_scenes(3, {"train": 300})["train"]):
        objects = place_objects(scene, random.Random(number))
        cells = [item.cell for item in objects]
        groups = [group for group in (scene.first, scene.second) if group]
        assert len(set(cells)) == len(cells) == sum(group.count for group in groups)
        assert [(o.kind, o.colour) for o in objects] == [(g.kind, g.colour) for g in groups for _ in range(g.count)]
        if scene.second is not None:
            axis = ("left", "above").index(scene.relation)
            first, second = np.array(cells[: scene.first.count]), np.array(cells[scene.first.count :])
            assert first[:, axis].max() < GRID / 2 <= second[:, axis].min()
            apart = np.abs(second.mean(0) - first.mean(0))
            assert apart[axis] >= 2 * apart[1 - axis]


def test_objects_stay_inside_their_cell_however_they_are_shifted():
    for kind, shift in product(KINDS, [(-1, -1), (1, 1), (-1, 1), (0, 0)]):
        picture = np.array(draw_picture("snow", [PlacedObject(kind, "red", (2, 1), shift)]))
        rows, columns = np.nonzero((picture != np.array(draw_background("snow", 64))).any(2))
        assert rows.min() >= CELL and rows.max() < 2 * CELL
        assert columns.min() >= 2 * CELL and columns.max() < 3 * CELL


def test_kinds_and_colours_can_be_told_apart():
    def pixels(kind, colour):
        sticker = draw_sticker(kind, colour)
        grey = Image.new("RGB", sticker.size, (128, 128, 128))
        grey.paste(sticker, (0, 0), sticker)
        return np.array(grey, dtype=float)

    for colour in COLOURS:
        for one, other in combinations(KINDS, 2):
            assert np.abs(pixels(one, colour) - pixels(other, colour)).mean() > 10, (colour, one, other)
    for kind, colour in product(KINDS, COLOURS):
        distance = np.abs(pixels(kind, colour) - np.array(PAINTS[colour].body)).max(2)
        assert (distance < 24).sum() >= 12, (kind, colour)  # of 256 pixels
    for one, other in combinations(COLOURS, 2):
        assert np.abs(np.subtract(PAINTS[one].body, PAINTS[other].body)).max() > 80


# ---- files ---------------------------------------------------------------------------------------------------------


def test_files_of_a_world(world):
    names = {f"{split}.{code}.json" for split in ("train", "valid", "test") for code in language_codes()}
    names |= {f"train.vision-en-{code}.tsv" for code in language_codes()}
    assert {path.name for path in world.iterdir()} == names | {"images", "picture_world.json"}
    images = sorted((world / "images").rglob("*.png"))
    assert len(images) == 12 + 5 + 4
    for path in images:
        with Image.open(path) as image:
            assert (image.size, image.mode, image.format) == ((64, 64), "RGB", "PNG")
    assert len({path.read_bytes() for path in images}) == len(images)


def test_captions_are_written_in_the_usual_formats(world):
    plans = plan_world(SMALL)
    hindi = get_language("hi")
    for split in ("valid", "test"):
        assert read_json(world / f"{split}.hi.json") == [
            {"image": p.name, "image_id": p.image_id, "caption": [hindi.caption(plan) for plan in p.plans]}
            for p in plans[split]
        ]
    assert read_json(world / "train.hi.json") == [
        {"image": p.name, "image_id": p.image_id, "caption": hindi.caption(plan)}
        for p in plans["train"]
        for plan in p.plans
    ]
    ids = [picture.image_id for split in plans.values() for picture in split]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("code", language_codes())
def test_triplets_put_translations_side_by_side(world, code):
    triplets = [line.split("\t") for line in (world / f"train.vision-en-{code}.tsv").read_text("utf-8").splitlines()]
    english, target = (read_json(world / f"train.{name}.json") for name in ("en", code))
    assert triplets == [[e["image"], e["caption"], t["caption"]] for e, t in zip(english, target)]
    assert [row["image"] for row in target] == [row["image"] for row in english] and len(triplets) == 24


def test_the_caption_readers_find_nothing_wrong(world):
    for name, number in (("train.vision-en-zh.tsv", 24), ("train.ar.json", 24), ("test.el.json", 8)):
        table = read_captions(world / name, image_root=world / "images", check_images=True, on_problem="error")
        assert len(table.captions) == number and not table.problems


def test_same_files_in_every_process_and_for_any_choice_of_languages(world, tmp_path):
    arguments = ["--seed", "7", "--train", "12", "--valid", "5", "--test", "4", "--languages", "zh,en"]
    subprocess.run(
        [sys.executable, "-m", "mlvl_fairseq.cli.picture_world", str(tmp_path / "again"), *arguments],
        env={**os.environ, "PYTHONHASHSEED": "123"}, check=True, capture_output=True,
    )  # fmt: skip
    again, whole = contents(tmp_path / "again"), contents(world)
    assert len(again) == 21 + 2 * 4 + 1
    assert again == {name: whole[name] for name in again}


def test_a_second_call_only_writes_what_is_missing(world, tmp_path):
    folder = tmp_path / "world"
    assert len(write_world(folder, SMALL, ["de"])) == 5
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert write_world(folder, SMALL, ["de"]) == []
    added = write_world(folder, SMALL, ["de", "ja"])
    assert [path.name for path in added] == ["train.ja.json", "valid.ja.json", "test.ja.json", "train.vision-en-ja.tsv"]
    assert {path: path.stat().st_mtime_ns for path in before if path != folder} == {
        path: time for path, time in before.items() if path != folder
    }


def test_an_interrupted_call_is_continued(world, tmp_path, monkeypatch):
    drawn = []

    def fail_at_the_tenth(*args):
        drawn.append(args)
        if len(drawn) == 10:
            raise KeyboardInterrupt
        return draw_picture(*args)

    folder = tmp_path / "world"
    with monkeypatch.context() as patch:
        patch.setattr("mlvl_fairseq.picture_world.writing.draw_picture", fail_at_the_tenth)
        with pytest.raises(KeyboardInterrupt):
            write_world(folder, SMALL)
    assert not (folder / "images").exists()
    write_world(folder, SMALL)
    assert contents(folder) == contents(world)


# ---- what bad input gets -------------------------------------------------------------------------------------------


def test_other_settings_in_the_same_folder_are_refused(tmp_path):
    write_world(tmp_path / "world", SMALL, ["en"])
    before = contents(tmp_path / "world")
    with pytest.raises(UserError, match="seed 7, not 8, test 4, not 6.*new folder"):
        write_world(tmp_path / "world", WorldSettings(seed=8, train=12, valid=5, test=6), ["en"])
    assert contents(tmp_path / "world") == before


def test_settings_of_another_program_are_refused_in_one_line(tmp_path):
    (tmp_path / "picture_world.json").write_text('{"seed": "seven", "a\\nb": [1], "train": "' + 9999 * "x" + '"}')
    with pytest.raises(UserError, match="seed 'seven', not 7") as refused:
        write_world(tmp_path, SMALL, ["en"])
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 500


def test_folders_with_something_else_are_left_alone(tmp_path):
    (tmp_path / "train.en.json").write_text("mine")
    with pytest.raises(UserError, match="not empty and holds no picture world"):
        write_world(tmp_path, SMALL)
    assert contents(tmp_path) == {"train.en.json": b"mine"}


@pytest.mark.parametrize("damage", ["", '{"seed": 7', "[]", "[" * 200_000])
def test_a_damaged_manifest_is_reported(tmp_path, damage):
    (tmp_path / "picture_world.json").write_text(damage)
    with pytest.raises(DataError, match="picture_world.json: .*delete the folder and draw the world again"):
        write_world(tmp_path, SMALL)


@pytest.mark.parametrize(
    "settings, languages, message",
    [
        (SMALL, ["en", "tlh"], "does not speak 'tlh'; it speaks en, ar, "),
        (WorldSettings(valid=0), ["en"], "valid=0: every split needs at least one picture"),
        (WorldSettings(train=-3), ["en"], "train=-3"),
        (WorldSettings(train=MAX_PICTURES), ["en"], f"at most {MAX_PICTURES}"),
    ],
)
def test_impossible_worlds_are_refused_before_anything_is_written(tmp_path, settings, languages, message):
    with pytest.raises(UserError, match=re.escape(message)):
        write_world(tmp_path / "world", settings, languages)
    assert not (tmp_path / "world").exists()


def test_command(tmp_path, capsys):
    arguments = ["--train", "3", "--valid", "2", "--test", "1", "--languages", "fr,en"]
    command.main([str(tmp_path / "world"), *arguments])
    assert len(read_json(tmp_path / "world" / "train.fr.json")) == 6
    with pytest.raises(SystemExit) as stop:
        run(command.main, [str(tmp_path / "world"), "--train", "4"])
    assert stop.value.code == 2 and "another picture world" in capsys.readouterr().err


@pytest.mark.parametrize("languages", [["--languages", "order36"], ["--languages", "all"], []])
def test_all_languages_are_written_by_any_name_for_them(tmp_path, languages):
    command.main([str(tmp_path / "world"), "--train", "1", "--valid", "1", "--test", "1", *languages])
    assert {path.name.split(".")[1] for path in (tmp_path / "world").glob("test.*.json")} == set(language_codes())


def test_languages_are_listed(capsys):
    command.main(["--list-languages"])
    listed = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert list(listed) == language_codes() and listed["de"] == "Deutsch" and "constructed" in listed["qaa"]
    with pytest.raises(SystemExit):
        command.main([])
    assert "give a folder" in capsys.readouterr().err
