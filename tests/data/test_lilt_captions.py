"""The files that LilT trains and is scored on, as they are published."""

import hashlib
import json
import os
import runpy
import sys

import pytest
from golden import load_golden

from mlvl_fairseq.data.captions import read_captions, read_languages
from mlvl_fairseq.data.captions.xtd10 import LILT_LANGUAGES, write_lilt_files
from mlvl_fairseq.errors import DataError, UserError


def pairs(table):
    return [(table.images[row], caption) for row, caption in zip(table.image_rows, table.captions)]


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_training_rows_have_absolute_names_and_one_or_several_captions(tmp_path):
    """Every caption is a row; LilT draws one of an image's list each time."""
    rows = [
        {"image": f"{tmp_path}/coco/a.jpg", "image_id": "any", "caption": "A dog"},
        {"image": f"{tmp_path}/vg/b.jpg", "caption": ["A cat", "Two cats"]},
    ]
    path = write(tmp_path / "pretrain-pairs.json", rows)
    table = read_captions(path, image_root=str(tmp_path))
    assert pairs(table) == [("coco/a.jpg", "A dog"), ("vg/b.jpg", "A cat"), ("vg/b.jpg", "Two cats")]
    assert pairs(read_captions(path, image_root="/"))[0] == (f"{tmp_path}/coco/a.jpg".lstrip("/"), "A dog")


def test_numbers_of_a_test_file_and_a_training_file(tmp_path):
    """The published data sets' index maps (golden re_eval_dataset and re_train_dataset_ids). An image without caption
    is no image of ours; there, it is one that no text asks for."""
    rows = [
        {"image": "a.png", "caption": ["One dog.", "A dog runs!"]},
        {"image": "b.png", "caption": ["A cat"]},
        {"image": "c.png", "caption": []},
    ]
    table = read_captions(write(tmp_path / "test.json", rows))
    assert table.images == ["a.png", "b.png"] and table.image_rows.tolist() == [0, 0, 1]
    assert dict(table.problems.counts) == {"empty caption": 1}
    ids = [{"image": f"{name}.png", "caption": "x", "image_id": name} for name in "aba"]
    assert read_captions(write(tmp_path / "train.json", ids)).image_rows.tolist() == [0, 1, 0]


@pytest.mark.parametrize("kept, captions", [("all", "baedcf"), ("first", "bd"), ("last", "ef")])
def test_vizwiz_is_coco_with_one_caption_an_image_in_lilts_files(kept, captions, tmp_path):
    images = [{"id": n, "file_name": f"VizWiz_val_{n:08}.jpg", "vizwiz_url": "https://a.org"} for n in (0, 1)]
    annotations = [
        {"caption": caption, "image_id": image, "is_precanned": False, "is_rejected": False, "id": number}
        for number, (caption, image) in enumerate((("d", 1), ("b", 0), ("a", 0), ("c", 1), ("f", 1), ("e", 0)))
    ]
    path = write(tmp_path / "val.json", {"info": {}, "images": images, "annotations": annotations})
    table = read_captions(path, kept=kept)
    assert "".join(table.captions) == captions and table.images == [image["file_name"] for image in images]
    assert table.image_rows.tolist() == ([0, 0, 0, 1, 1, 1] if kept == "all" else [0, 1])


CONCADIA = {"images": [
    {"filename": "a.jpg", "orig_filename": "A.JPG", "description": {"raw": "A red wall", "tokens": ["A"]},
     "caption": {"raw": "Rome in 1990"}, "context": {"raw": "Rome ..."}, "split": "test"},
    {"filename": "b.jpg", "description": {"raw": "A map"}, "caption": {"raw": "France"}, "split": "train"},
    {"filename": "c.jpg", "description": {"tokens": ["A"]}, "caption": {"raw": "Spain"}, "split": "test"},
    {"description": {"raw": "A sea"}, "caption": {"raw": "Spain"}, "split": "test"},
]}  # fmt: skip


def test_concadia(tmp_path):
    path = write(tmp_path / "wiki_split.json", CONCADIA)
    table = read_captions(path, split="test")
    assert pairs(table) == [("a.jpg", "A red wall")] and dict(table.problems.counts) == {"missing field": 2}
    summary = table.problems.summary()
    assert "wiki_split.json:3" in summary and "'c.jpg' has no text 'description.raw'" in summary
    assert pairs(read_captions(path, file_splits="train")) == [("b.jpg", "A map")]
    captions = read_captions(path, split="test", columns="image=filename,caption=caption")
    assert pairs(captions) == [("a.jpg", "Rome in 1990"), ("c.jpg", "Spain")]
    with pytest.raises(UserError, match="has no split 'dev'"):
        read_captions(path, split="dev")
    with pytest.raises(DataError, match=r"wiki_split.json:3 .*'c.jpg' has no text"):
        read_captions(path, split="test", on_problem="error")


WINOGROUND = [
    {"id": 0, "image_0": "ex_0_img_0", "image_1": "ex_0_img_1", "caption_0": "old kisses young",
     "caption_1": "young kisses old", "tag": "Adjective-Age", "num_main_preds": 1},
    {"id": 1, "image_0": "a.jpg", "image_1": "b c", "caption_0": "x y", "caption_1": "y x"},
]  # fmt: skip


def test_winoground(tmp_path):
    bad = ['{"image_0": "a", "caption_0": "b", "image_1": "c"}', '{"image_0": 1}', "[]", "{", ""]
    table = read_captions(write(tmp_path / "annotations.jsonl", "\n".join([*map(json.dumps, WINOGROUND), *bad])))
    assert pairs(table) == [
        ("ex_0_img_0.png", "old kisses young"),
        ("ex_0_img_1.png", "young kisses old"),
        ("a.jpg", "x y"),
        ("b c.png", "y x"),
    ]
    assert table.lines.tolist() == [1, 1, 2, 2]
    assert dict(table.problems.counts) == {"missing field": 1, "wrong type": 2, "damaged line": 1}
    assert table.problems.left_out == 8
    assert "annotations.jsonl:3 field 'caption_1': is missing" in table.problems.summary()


# XTD10, generated: 8 of 10 pictures of COCO's training set, in the published folders.
NAMES = [f"COCO_{'val' if n % 5 == 4 else 'train'}2014_{n:012}.jpg" for n in range(10)]


@pytest.fixture
def xtd10(tmp_path):
    folder = tmp_path / "XTD10"
    write(folder / "test_image_names.txt", "".join(f"{name}\n" for name in NAMES))
    for lang in LILT_LANGUAGES:
        write(folder / f"test_1kcaptions_{lang}.txt", "".join(f" {lang} ünï 图 {n}\n" for n in range(10)))
    for place, lang in (("MIC", "en"), ("MIC", "de"), ("MIC", "fr"), ("STAIR", "jp")):
        write(tmp_path / place / f"test_1kcaptions_{lang}.txt", "".join(f"{lang} word {n}\n" for n in range(10)))
    return folder


def test_xtd10_in_all_eleven_languages(xtd10):
    names, languages = xtd10 / "test_image_names.txt", ["en", "de", "fr", "ja", *LILT_LANGUAGES]
    tables = read_languages(str(names), languages, split="test")
    assert list(tables) == languages
    assert pairs(tables["ko"]) == [(name, f"ko ünï 图 {n}") for n, name in enumerate(NAMES)]
    assert pairs(tables["ja"]) == [(name, f"jp word {n}") for n, name in enumerate(NAMES)]
    for split, numbers in (("all1000", range(10)), ("val200", (4, 9)), ("train800", (0, 1, 2, 3, 5, 6, 7, 8))):
        table = read_captions(names, lang="zh", file_splits=split)
        assert pairs(table) == [(NAMES[n], f"zh ünï 图 {n}") for n in numbers]


def test_what_is_wrong_with_xtd10_is_one_line_of_the_captions_file(xtd10):
    names = xtd10 / "test_image_names.txt"
    with pytest.raises(UserError, match="--captions-split test: XTD10 has all1000, val200, train800"):
        read_captions(names, lang="zh", file_splits="test")
    with pytest.raises(DataError, match="has no captions in 'nl': there is no test_1kcaptions_nl.txt"):
        read_captions(names, lang="nl")
    captions = xtd10 / "test_1kcaptions_zh.txt"
    lines = captions.read_text().splitlines()
    write(captions, "\n".join([*lines[:3], "", *lines[4:]]) + "\n")
    assert "test_1kcaptions_zh.txt:4 field 'caption': is empty" in read_captions(names, lang="zh").problems.summary()
    write(captions, "\n".join(lines[:9]) + "\n")
    with pytest.raises(DataError, match="test_1kcaptions_zh.txt.* has no line 10"):
        read_captions(names, lang="zh")


def test_lilts_files_of_xtd10_byte_for_byte(xtd10, tmp_path, monkeypatch, capsys):
    """Written out by hand here; the digests of the published text need that text."""
    script = [str(part) for part in ("process_xtd10.py", xtd10, "/COCO/train2014", tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", script)
    from mlvl_fairseq.cli import common

    with pytest.raises(SystemExit) as end:
        path = common.__file__.partition("mlvl_fairseq")[0] + "examples/lilt/process_xtd10.py"
        runpy.run_path(path, run_name="__main__")
    assert end.value.code == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[:4] == [
        "Wrote 56 training records", "Wrote 2 validation records", "Wrote 2 validation records for es",
        "Wrote 8 training records for es",
    ]  # fmt: skip
    assert len(printed) == len(list((tmp_path / "out").iterdir())) == 16
    text = (tmp_path / "out" / "val_ru.json").read_text()
    assert text == (
        '[{"image": "val2014/COCO_val2014_000000000004.jpg", "caption": ["ru \\u00fcn\\u00ef \\u56fe 4"]}, '
        '{"image": "val2014/COCO_val2014_000000000009.jpg", "caption": ["ru \\u00fcn\\u00ef \\u56fe 9"]}]'
    )
    train = json.loads((tmp_path / "out" / "train.json").read_text())
    assert train[:8] == [
        {"image": f"/COCO/train2014/{NAMES[n]}", "caption": f"{lang} ünï 图 {n}"}
        for n, lang in [(0, lang) for lang in LILT_LANGUAGES] + [(1, "es")]
    ]
    val = json.loads((tmp_path / "out" / "val.json").read_text())
    assert val[1]["caption"] == [f"{lang} ünï 图 9" for lang in LILT_LANGUAGES]
    mixed = read_captions(tmp_path / "out" / "val.json")
    assert len(mixed) == 14 and mixed.images == [f"val2014/{name}" for name in (NAMES[4], NAMES[9])]


def test_lilts_files_of_bad_text(xtd10, tmp_path):
    with pytest.raises(UserError, match="has no test_image_names.txt"):
        list(write_lilt_files(tmp_path, "/COCO", tmp_path / "out"))
    (xtd10 / "test_1kcaptions_tr.txt").write_bytes(b"a\n\xff\n" + b"c\n" * 8)
    with pytest.raises(DataError, match="test_1kcaptions_tr.txt:2.*not valid UTF-8"):
        list(write_lilt_files(xtd10, "/COCO", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_lilts_files_of_the_published_text(tmp_path):
    """Run with the published folder, which is not ours to give away: MLVL_XTD10=.../XTD10."""
    folder, golden = os.environ.get("MLVL_XTD10"), load_golden("xtd10")
    if not folder:
        pytest.skip("MLVL_XTD10 does not name the folder XTD10 of the published data set")
    assert list(write_lilt_files(folder, "/COCO/train2014", tmp_path)) == golden["stdout"]
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in tmp_path.iterdir()}
    assert found == golden["sha256"]
