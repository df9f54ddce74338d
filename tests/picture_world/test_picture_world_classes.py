"""Pictures of classes: a folder for each, named in every language."""

from collections import Counter

import numpy as np
import pytest
from PIL import Image

from mlvl_fairseq.cli import picture_world as command
from mlvl_fairseq.data.classification import DATA_SETS
from mlvl_fairseq.data.classification.names import read_names
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.picture_world import write_classes
from mlvl_fairseq.picture_world.palette import PAINTS


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Drawn by the command."""
    folder = tmp_path_factory.mktemp("worlds") / "world"
    sizes = ["--train", "1", "--valid", "1", "--test", "1", "--seed", "3"]
    command.main([str(folder), *sizes, "--languages", "en,de,qab", "--classes", "2"])
    return folder / "classes"


def test_folders_of_classes_as_a_data_set(world):
    for split, number in (("train", 2), ("valid", 1), ("test", 1)):
        found = DATA_SETS["folder"]().read(str(world / split), split)
        assert len(found.keys) == 128 and set(Counter(found.labels.tolist()).values()) == {number}
    assert {"red_star", "black_umbrella"} < set(found.keys)


def test_a_picture_shows_its_colour(world):
    for colour in ("red", "green", "purple"):
        with Image.open(world / "test" / f"{colour}_ball" / "000.png") as picture:
            assert (picture.size, picture.mode) == ((64, 64), "RGB")
            close = np.abs(np.array(picture, float) - np.array(PAINTS[colour].body)).max(2) < 24
        assert close.sum() >= 12


def test_pictures_differ_between_splits_and_within(world):
    pictures = [path.read_bytes() for path in world.glob("*/red_star/*.png")]
    assert len(set(pictures)) == len(pictures) == 4


def test_names_are_read_as_those_of_all_classes(world):
    keys = DATA_SETS["folder"]().read(str(world / "test"), "test").keys
    names = {lang: dict(zip(keys, read_names(world / f"names.{lang}.txt", keys))) for lang in ("en", "de", "qab")}
    assert names["en"]["red_star"] == "A red star." and names["de"]["orange_flower"] == "Eine orangefarbene Blume."
    assert all(len(set(own.values())) == 128 for own in names.values())


def test_languages_can_be_added_and_other_numbers_cannot(world):
    before = (world / "train" / "red_star" / "000.png").stat().st_mtime_ns
    assert [path.name for path in write_classes(world.parent, 3, 2, ["de", "zh"])] == ["names.zh.txt"]
    assert (world / "train" / "red_star" / "000.png").stat().st_mtime_ns == before
    with pytest.raises(UserError, match="holds other classes than those of"):
        write_classes(world.parent, 3, 4, ["de"])
    with pytest.raises(UserError, match="classes=0: every class needs at least one picture"):
        write_classes(world.parent, 3, 0, ["de"])
