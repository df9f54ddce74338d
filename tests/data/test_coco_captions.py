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
