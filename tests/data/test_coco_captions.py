"""MS-COCO's annotation files, whole or by a list of images."""

import json

import pytest

from mlvl_fairseq.data.captions import read_captions
from mlvl_fairseq.errors import DataError

IMAGES = [
    {"id": 42, "file_name": "COCO_val2014_000000000042.jpg", "height": 3},
    {"id": 7, "file_name": "COCO_val2014_000000000007.jpg"},
    {"id": 9, "file_name": "COCO_val2014_000000000009.jpg"},
]
ANNOTATIONS = [
    {"image_id": 7, "id": 1, "caption": "a dog"},
    {"image_id": 42, "id": 2, "caption": "a cat\n"},
    {"image_id": 7, "id": 3, "caption": "a brown dog"},
]


@pytest.fixture
def write(tmp_path):
    def write_file(images=IMAGES, annotations=ANNOTATIONS, name="captions_val2014.json", **more):
        path = tmp_path / name
        path.write_text(json.dumps({"info": {"year": 2014}, "images": images, "annotations": annotations, **more}))
        return path

    return write_file


def test_the_whole_file_in_the_order_of_its_images(write):
    table = read_captions(write())
    assert table.images == [IMAGES[0]["file_name"], IMAGES[1]["file_name"]]
    assert table.captions == ["a cat", "a dog", "a brown dog"] and table.image_rows.tolist() == [0, 1, 1]
    assert table.lines.tolist() == [2, 1, 3]
    assert dict(table.problems.counts) == {"image without caption": 1}


@pytest.mark.parametrize("lines", [
    ["val2014/COCO_val2014_000000000007.jpg 7", "val2014/COCO_val2014_000000000042.jpg 42"],
    ["val2014/COCO_val2014_000000000007.jpg", "val2014/COCO_val2014_000000000042.jpg"],
    ["my photo of a dog.jpg 7", "cat.jpg 42"],
])  # fmt: skip
def test_a_list_says_which_images_in_which_order_under_which_name(lines, write, tmp_path):
    (tmp_path / "list.txt").write_text("\n".join(lines) + "\n")
    table = read_captions(write(), image_list=tmp_path / "list.txt")
    assert table.captions == ["a dog", "a brown dog", "a cat"]
    assert table.images == [line.removesuffix(" 7").removesuffix(" 42") for line in lines]


def test_a_listed_image_without_caption_is_counted(write, tmp_path):
    (tmp_path / "list.txt").write_text("a_42.jpg\nb_13.jpg\n")
    table = read_captions(write(), image_list=tmp_path / "list.txt")
    assert table.captions == ["a cat"] and dict(table.problems.counts) == {"image without caption": 1}
    assert "list.txt:2" in table.problems.summary()


def test_numbers_may_be_strings(write):
    annotations = [{"image_id": "7", "caption": "ein Hund"}]
    assert read_captions(write(annotations=annotations)).captions == ["ein Hund"]


def test_entries_that_cannot_be_used_are_counted(write):
    table = read_captions(write([*IMAGES, {"id": 5}, 3], [*ANNOTATIONS, {"image_id": 7}, {"caption": "x"}, "y"]))
    assert len(table) == 3 and table.problems.counts["missing field"] == 5
    with pytest.raises(DataError, match="annotation without image_id or caption"):
        read_captions(write(annotations=[{"image_id": 7}]), on_problem="error")


def test_what_is_no_such_file(write, tmp_path):
    path = write()
    for content, message in (
        (path.read_text()[:-10], "not valid JSON"),
        ('{"info": 1, "images": []}', "field 'annotations': is missing or no list"),
    ):
        (tmp_path / "bad.json").write_text(content)
        with pytest.raises(DataError, match=message):
            read_captions(tmp_path / "bad.json")
    (tmp_path / "list.txt").write_text("cat.jpg\n")
    with pytest.raises(DataError, match="list.txt:1: no number in 'cat.jpg'"):
        read_captions(path, image_list=tmp_path / "list.txt")


def test_text_that_begins_with_a_brace_is_still_text(tmp_path):
    (tmp_path / "a.txt").write_text("{a} caption\nanother\n")
    (tmp_path / "images.txt").write_text("1.jpg\n2.jpg\n")
    assert len(read_captions(tmp_path / "a.txt", image_list=tmp_path / "images.txt")) == 2


def test_coco_cn_as_published(tmp_path):
    """Names without endings; a list of images chooses a split; pictures where MS-COCO has them."""
    for name in ("val2014/COCO_val2014_000000000042.jpg", "train2014/COCO_train2014_000000000009.jpg"):
        (tmp_path / "coco" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "coco" / name).touch()
    path, chosen = tmp_path / "imageid.human-written-caption.txt", tmp_path / "coco-cn_test.txt"
    lines = ["COCO_val2014_000000000042#0\t一只狗。", "COCO_train2014_000000000009#zhm#1\t一只猫", "broken", "", ""]
    path.write_text("\n".join([*lines[:2], "COCO_val2014_000000000042#1\t狗", *lines[2:]]), encoding="utf-8")
    table = read_captions(path, image_root=tmp_path / "coco", check_images=True)
    assert table.images == ["val2014/COCO_val2014_000000000042.jpg", "train2014/COCO_train2014_000000000009.jpg"]
    assert table.captions == ["一只狗。", "一只猫", "狗"] and table.image_rows.tolist() == [0, 1, 0]
    assert dict(table.problems.counts) == {"wrong column count": 1}
    chosen.write_text("COCO_val2014_000000000042\nCOCO_val2014_000000000007\n")
    table = read_captions(path, image_list=chosen)
    assert (table.images, table.captions) == (["COCO_val2014_000000000042.jpg"], ["一只狗。", "狗"])
    assert dict(table.problems.counts) == {"wrong column count": 1, "image without caption": 1}


def test_yjcaptions_and_the_lists_of_cclm(write, tmp_path):
    """YJCaptions has MS-COCO's layout; CCLM's lists of both have captions beside names below a root of all images."""
    picture = tmp_path / "images" / "coco" / "val2014" / IMAGES[0]["file_name"]
    picture.parent.mkdir(parents=True)
    picture.touch()
    annotations = [{"image_id": 42, "id": 1, "caption": "犬がいる"}]
    table = read_captions(write(IMAGES[:1], annotations, "yjcaptions26k_clean.json"), image_root=tmp_path / "images")
    assert (table.images, table.captions) == ([f"coco/val2014/{picture.name}"], ["犬がいる"])
    rows = [{"caption": ["犬", "白い犬"], "image": f"coco/val2014/{picture.name}", "image_id": 42}]
    (tmp_path / "ja.1k_test.json").write_text(json.dumps(rows))
    table = read_captions(tmp_path / "ja.1k_test.json", image_root=tmp_path / "images", check_images=True, lang="ja")
    assert (table.images, table.captions) == ([f"coco/val2014/{picture.name}"], ["犬", "白い犬"])
