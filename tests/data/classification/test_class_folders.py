"""Folders of classes: what is read as an image of what, and what is refused in one line."""

import logging

import pytest
from PIL import Image

from mlvl_fairseq.data.classification import DATA_SETS, data_set_names, kinds, register_data_set
from mlvl_fairseq.data.classification.kinds.imagenet import imagenet_names
from mlvl_fairseq.data.images.transforms import ImageTransform
from mlvl_fairseq.errors import DataError, UserError


def picture(path, colour=(255, 0, 0), size=(4, 4)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


@pytest.fixture
def folder(tmp_path):
    """Two classes, one with a folder inside."""
    for name in ("red_ball/1.png", "red_ball/more/2.jpg", "blue/1.PNG"):
        picture(tmp_path / "set" / name, (0, 0, 255) if "blue" in name else (255, 0, 0))
    return tmp_path / "set"


def read(kind, root, split="test"):
    return DATA_SETS[kind]().read(str(root), split)


def test_a_folder_is_a_class(folder):
    images = read("folder", folder)
    assert images.keys == ["blue", "red_ball"] and images.names == ["blue", "red ball"] and images.numbers == [0, 1]
    assert images.images == ["blue/1.PNG", "red_ball/1.png", "red_ball/more/2.jpg"]
    assert images.labels.tolist() == [0, 1, 1] and images.labels.dtype == "int64"
    loaded = images.dataset(ImageTransform("clip", 4), ["red_ball/1.png", "blue/1.PNG"])
    assert [int(one.pixels.mean((1, 2)).argmax()) for one in loaded] == [0, 2] and len(loaded) == 2


def test_what_is_no_picture_is_told_and_hidden_files_are_not(folder, caplog):
    (folder / "blue" / "notes.txt").write_text("x")
    (folder / "blue" / ".DS_Store").write_text("x")
    picture(folder / ".cache" / "1.png")
    with caplog.at_level(logging.WARNING):
        assert len(read("folder", folder)) == 3
    assert caplog.messages == [f"{folder}: 1 files are no pictures: blue/notes.txt"]


def test_some_classes_and_all_but_some_images(folder):
    picture(folder / "green" / "1.png")
    images = read("folder", folder)
    some = images.of_classes([2, 0])
    assert some.keys == ["red_ball", "blue"] and some.labels.tolist() == [1, 0, 0] and some.numbers == [2, 0]
    assert some.images == ["blue/1.PNG", "red_ball/1.png", "red_ball/more/2.jpg"]
    less = images.without({"blue/1.PNG"})
    assert less.keys == images.keys and less.labels.tolist() == [1, 2, 2] and "blue/1.PNG" not in less.images


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda root: None, "No such file or directory; give a folder with a folder for each class"),
        (lambda root: root.mkdir(), "holds no folders; give a folder with a folder for each class"),
        (lambda root: picture(root / "one" / "1.png"), "holds 1 class: nothing is to be told apart"),
        (lambda root: [picture(root / "one" / "1.png"), (root / "two").mkdir()], "two: holds no picture ("),
    ],
)
def test_folders_that_are_none(tmp_path, change, message):
    change(tmp_path / "set")
    with pytest.raises(DataError) as raised:
        read("folder", tmp_path / "set")
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_one_pixel_is_a_picture_that_shows_nothing(folder):
    picture(folder / "blue" / "dot.png", size=(1, 1))
    images = read("folder", folder)
    (dot,) = images.dataset(ImageTransform("clip", 4), ["blue/dot.png"])
    assert dot.problem is None and dot.pixels.shape == (3, 4, 4) and "is of one colour" in dot.doubt


def test_imagenet_by_wnid(tmp_path):
    for wnid in ("n02123045", "n01440764", "n15075141"):
        picture(tmp_path / wnid / "1.png")
    images = read("imagenet", tmp_path)
    assert images.keys == ["n01440764", "n02123045", "n15075141"]
    assert images.names == ["tench", "tabby cat", "toilet paper"] and images.numbers == [0, 281, 999]
    (tmp_path / "scripts").mkdir()
    assert len(read("imagenet", tmp_path)) == 3
    picture(tmp_path / "n99999999" / "1.png")
    with pytest.raises(DataError, match="n99999999 is none of ImageNet's 1000 classes; --data-set folder reads it"):
        read("imagenet", tmp_path)


def test_imagenet_s_names_are_clip_s():
    names = imagenet_names()
    assert len(names) == 1000 and list(names) == sorted(names)
    twice = {name for name in names.values() if list(names.values()).count(name) == 2}
    assert len(set(names.values())) == 998 and twice == {"missile", "sunglasses"}


def test_imagenet_a_is_named_by_its_readme(tmp_path, caplog):
    for wnid in ("n01498041", "n01531178"):
        picture(tmp_path / wnid / "1.png")
    with caplog.at_level(logging.WARNING):
        assert read("imagenet_a", tmp_path).names == ["stingray", "goldfinch"]
    assert "README.txt: there is none; classes are called as in CLIP's list" in caplog.text
    readme = tmp_path / "README.txt"
    readme.write_text("About ImageNet-A\n\nn01498041 Stingray\nn01531178 American goldfinch\nn01770393 scorpion\n")
    assert read("imagenet_a", tmp_path).names == ["Stingray", "American goldfinch"]
    readme.write_text("n01498041 Stingray\n")
    with pytest.raises(DataError, match="README.txt: has no name for 1 of 2 classes, such as 'n01531178'"):
        read("imagenet_a", tmp_path)


def test_imagenet_v2_by_number(tmp_path, caplog):
    for number in ("0", "10", "9", "999"):
        picture(tmp_path / number / "a.png")
    images = read("imagenet_v2", tmp_path)
    assert len(images.keys) == 1000 and images.images == ["0/a.png", "9/a.png", "10/a.png", "999/a.png"]
    assert images.labels.tolist() == [0, 9, 10, 999] and images.names[999] == "toilet paper"
    assert "996 of 1000 classes have no folder" in caplog.text
    (tmp_path / "1000").mkdir()
    with pytest.raises(DataError, match="holds a folder '1000', which is no class number; give the folder that holds"):
        read("imagenet_v2", tmp_path)


def test_eurosat_and_sun397(tmp_path):
    classes = (
        "AnnualCrop Forest HerbaceousVegetation Highway Industrial Pasture PermanentCrop Residential River SeaLake"
    )
    for name in classes.split():
        picture(tmp_path / "2750" / name / f"{name}_1.jpg")
    images = read("eurosat", tmp_path)
    assert images.keys == classes.split() and images.names[-1] == "lake or sea" and images.images[0].startswith("Ann")
    (tmp_path / "2750" / "Forest").rename(tmp_path / "2750" / "Woods")
    with pytest.raises(DataError, match="its folders are not EuroSAT's ten classes \\(Forest\\); unpack EuroSAT.zip"):
        read("eurosat", tmp_path)
    sun = tmp_path / "SUN397"
    for name in ("a/abbey/sun_b.jpg", "a/abbey/sun_a.jpg", "a/apartment_building/outdoor/sun_a.jpg", "a/abbey/x.jpg"):
        picture(sun / name)
    (sun / "ClassName.txt").write_text("/a/abbey\n/a/apartment_building/outdoor\n")
    for root in (tmp_path, sun):
        images = read("sun397", root)
        assert images.names == ["abbey", "apartment building outdoor"] and images.labels.tolist() == [0, 0, 1]
        assert images.images[:2] == ["a/abbey/sun_a.jpg", "a/abbey/sun_b.jpg"]
        assert images.keys == ["abbey", "apartment_building/outdoor"]
    (sun / "ClassName.txt").write_text("/a/../../abbey\n/a/b\n")
    with pytest.raises(DataError, match="is no class, as /a/abbey"):
        read("sun397", tmp_path)


@pytest.mark.parametrize("name", data_set_names())
def test_every_kind_says_what_it_needs(name, tmp_path):
    kind = DATA_SETS[name]
    assert kind.name == name and len(kind.__doc__) > 40 and "{}" in kind.prompt
    with pytest.raises((DataError, UserError)) as raised:
        kind().read(str(tmp_path / "nothing"), "test")
    assert "\n" not in str(raised.value) and len(str(raised.value)) > len(str(tmp_path)) + 40


def test_a_new_file_is_a_new_kind(add_file):
    text = "from mlvl_fairseq.data.classification.base import DataSet, register_data_set\n"
    before = data_set_names()
    add_file(kinds, "newest", text + "@register_data_set('newest')\nclass Newest(DataSet):\n    'x'\n")
    try:
        assert set(data_set_names()) == {*before, "newest"}
        with pytest.raises(ValueError, match="'folder' is registered already"):
            register_data_set("folder")(DATA_SETS["newest"])
    finally:
        del DATA_SETS["newest"]
