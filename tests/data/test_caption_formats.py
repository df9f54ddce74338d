"""Formats are told by content, whatever the file is called; joins of two lists report both sides."""

import gzip
import json

import pytest

from mlvl_fairseq.data.captions import CaptionReader, read_captions, read_languages, register_reader
from mlvl_fairseq.data.captions.json_rows import outline
from mlvl_fairseq.data.captions.reading import READERS, CaptionSource, choose_reader
from mlvl_fairseq.errors import DataError, UserError

NAMES = [f"n{n}.jpg" for n in range(20)]
TEXTS = [f"Ein Bild, Nummer {n}." for n in range(20)]
PAIRS = list(zip(NAMES, TEXTS))


def json_lines(rows):
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def karpathy(split=lambda n: "test", **more):
    images = [
        {"filename": name, "split": split(n), "sentences": [{"raw": text}]} for n, (name, text) in enumerate(PAIRS)
    ]
    return {"images": images, **more}


def coco(images=range(20), annotations=range(20), **more):
    return {
        "images": [{"id": n, "file_name": NAMES[n]} for n in images],
        "annotations": [{"id": 50 + n, "image_id": n, "caption": TEXTS[n]} for n in annotations],
        **more,
    }


CONTENTS = {
    "json": json.dumps([{"image": name, "caption": text} for name, text in PAIRS]),
    "json indented": json.dumps([{"image": name, "caption": text} for name, text in PAIRS], indent="\t"),
    "json other names": json.dumps([{"img_path": name, "sentences": [text]} for name, text in PAIRS]),
    "jsonl": json_lines({"image": name, "caption": text} for name, text in PAIRS),
    "xflickrco": json_lines({"sentences": [text], "id": name[:-4], "img_path": name} for name, text in PAIRS),
    "jsonl objects": json_lines(
        {"file_name": name, "url": f"http://a.org/{name}", "captions": [{"caption": text}]} for name, text in PAIRS
    ),
    "triplet": "".join(f"{name}\tA picture.\t{text}\n" for name, text in PAIRS),
    "pairs": "".join(f"{name}\t{text}\n" for name, text in PAIRS),
    "token": "".join(f"{name}#0\t{text}\n" for name, text in PAIRS),
    "csv": "image,caption\n" + "".join(f'{name},"{text}"\n' for name, text in PAIRS),
    "csv of bars": "image_name| number| comment\n" + "".join(f"{name}| 0| {text}\n" for name, text in PAIRS),
    "coco": json.dumps(coco()),
    "coco annotations first": json.dumps(dict(reversed(coco().items()))),
    "coco indented": json.dumps(coco(info={}), indent=1),
    "karpathy": json.dumps(karpathy()),
    "karpathy name first": json.dumps({"dataset": "flickr8k", **karpathy()}, indent=2),
    "concadia": json.dumps(
        {"images": [{"filename": name, "split": "test", "description": {"raw": text}} for name, text in PAIRS]}
    ),
    "winoground": json_lines(
        {f"{field}_{k}": PAIRS[n + k][column] for column, field in enumerate(("image", "caption")) for k in (0, 1)}
        for n in range(0, 20, 2)
    ),
    "xm3600": json_lines(
        {"image/key": name, "de": {"caption": [text]}, "en": {"caption": ["x"]}} for name, text in PAIRS
    ),
}


@pytest.mark.parametrize("ending", ["json", "jsonl", "tsv", "txt.gz", "token"])
@pytest.mark.parametrize("name", CONTENTS)
def test_the_same_content_under_another_name_is_the_same_format(name, ending, tmp_path):
    content = ("\ufeff" + CONTENTS[name]).encode()
    path = tmp_path / f"captions.{ending}"
    path.write_bytes(gzip.compress(content) if ending.endswith("gz") else content)
    assert choose_reader(CaptionSource(str(path))) is READERS[name.split()[0].replace("pairs", "triplet")]
    table = read_captions(path, lang="de", split="test", on_problem="error")
    assert [(table.images[row], text) for row, text in zip(table.image_rows, table.captions)] == PAIRS
    assert not table.problems


@pytest.mark.parametrize("name", CONTENTS)
def test_no_reader_takes_another_s_lines_for_captions(name, tmp_path):
    """With an image list beside it, any text could be captions."""
    (tmp_path / "captions").write_text(CONTENTS[name])
    lines = CONTENTS[name].count("\n") or 1
    (tmp_path / "images").write_text("".join(f"i{n}.jpg\n" for n in range(lines)))
    if name.split()[0] == "coco":  # which takes a list of images: all of it are listed
        (tmp_path / "images").write_text("".join(f"{image}\n" for image in NAMES))
        assert read_captions(tmp_path / "captions", image_list=tmp_path / "images").captions == TEXTS
        return
    with pytest.raises(UserError, match="has no use for: image_list .another: --captions-format"):
        read_captions(tmp_path / "captions", image_list=tmp_path / "images", lang="de")


def test_a_file_of_two_formats_is_refused_with_both_names(tmp_path):
    @register_reader("shouting")
    class Shouting(CaptionReader):
        def sniff(self, head):
            return head.isupper()

        def read(self, source, rows):
            raise NotImplementedError

    try:
        (tmp_path / "a").write_text("A.JPG\tA DOG\n")
        with pytest.raises(DataError, match="a: could be shouting or triplet: say which with --captions-format"):
            read_captions(tmp_path / "a")
        assert read_captions(tmp_path / "a", format="triplet").captions == ["A DOG"]
    finally:
        del READERS["shouting"]


# ---- several languages, several splits


def test_one_file_with_all_languages(tmp_path):
    (tmp_path / "all").write_text(CONTENTS["xm3600"])
    tables = read_languages(str(tmp_path / "all"), ["en", "de"])
    assert tables["en"].captions == ["x"] * 20 and tables["de"].captions == TEXTS
    with pytest.raises(DataError, match="all: has no captions in language 'fr'; it has de, en"):
        read_languages(str(tmp_path / "all"), ["en", "fr"])
    (tmp_path / "one").write_text(CONTENTS["pairs"])
    with pytest.raises(UserError, match="--train '.*one' needs {lang} .*: it holds one language"):
        read_languages(str(tmp_path / "one"), ["en", "de"], option="--train")


def test_rows_and_columns_that_name_their_language(tmp_path):
    rows = [{"image": name, "caption": text, "lang": lang} for lang in ("de", "en") for name, text in PAIRS[:2]]
    (tmp_path / "rows").write_text(json_lines(rows))
    (tmp_path / "column").write_text("image\tlanguage\tcaption\na.jpg\ten\tOne.\nb.jpg\tde\tZwei.\n")
    (tmp_path / "columns").write_text("image\ten\tde\na.jpg\tOne.\tEins.\nb.jpg\tTwo.\tZwei.\n")
    (tmp_path / "list").write_text(json.dumps(rows))
    assert read_languages(str(tmp_path / "rows"), ["de", "en"])["en"].captions == TEXTS[:2]
    assert read_languages(str(tmp_path / "list"), ["de", "en"])["en"].captions == TEXTS[:2]
    assert read_languages(str(tmp_path / "column"), ["de", "en"])["de"].captions == ["Zwei."]
    tables = read_languages(str(tmp_path / "columns"), ["en", "de"])
    assert tables["en"].captions == ["One.", "Two."] and tables["en"].english is None
    assert tables["de"].captions == ["Eins.", "Zwei."] and tables["de"].english == ["One.", "Two."]
    for name, why in (("rows", "but in de, en"), ("column", "but in en, de"), ("columns", "'fr'; it has en, de")):
        with pytest.raises(DataError, match=f"{name}.*has no c.*{why}"):
            read_captions(tmp_path / name, lang="fr")
    (tmp_path / "named").write_text(json_lines({**row, "lang": "German"} for row in rows))
    assert len(read_captions(tmp_path / "named", lang="de")) == 4, "no code: it says nothing"


@pytest.mark.parametrize("split, file_splits, numbers", [
    ("train", None, [*range(6), *range(12, 20)]), ("valid", None, [6, 7]), ("val", None, [6, 7]),
    ("test", None, [8, 9, 10, 11]),
    ("train", "train", range(6)), ("test", "restval,val", [6, 7, *range(12, 20)]),
])  # fmt: skip
def test_karpathys_splits(split, file_splits, numbers, tmp_path, caplog):
    def inside(n):
        return "train" if n < 6 else "val" if n < 8 else "test" if n < 12 else "restval"

    (tmp_path / "k.json").write_text(json.dumps(karpathy(inside)))
    caplog.set_level("INFO")
    table = read_captions(tmp_path / "k.json", split=split, file_splits=file_splits)
    assert table.captions == [TEXTS[n] for n in numbers]
    if split == "train" and not file_splits:
        assert "images 6 of 'train', 8 of 'restval'; not 2 of 'val', 4 of 'test'" in caplog.text


def test_karpathys_folder_is_part_of_the_name(tmp_path):
    images = karpathy()["images"][:2]
    (tmp_path / "k.json").write_text(json.dumps({"images": [{"filepath": "val2014", **images[0]}, images[1]]}))
    assert read_captions(tmp_path / "k.json", split="test").images == ["val2014/n0.jpg", "n1.jpg"]


def test_an_outline_ends_where_nothing_tells_formats_apart():
    """The way to each place is as long as it is deep: 64 Ki brackets would take minutes."""
    assert outline('{"a": [{"b": 1}, {"c": [' + "[" * 100) == {
        *("a", "a[]", "a[].b", "a[].c"),
        *(f"a[].c{'[]' * depth}" for depth in range(1, 6)),  # eight brackets in all
    }


def test_a_split_that_is_not_there(tmp_path):
    (tmp_path / "k.json").write_text(json.dumps(karpathy()))
    for options, message in (
        ({"split": "train"}, "has no split 'train', but test: say which, --captions-split"),
        ({}, "holds the splits test: say which"),
        ({"split": "test", "file_splits": "dev"}, "--captions-split dev: its splits are test"),
    ):
        with pytest.raises(UserError, match=message):
            read_captions(tmp_path / "k.json", **options)
    (tmp_path / "t.tsv").write_text(CONTENTS["pairs"])
    with pytest.raises(UserError, match="'triplet' has no use for: file_splits"):
        read_captions(tmp_path / "t.tsv", file_splits="test")


# ---- one bad row in twenty, and joins


def spoiled(rows, number, row):
    return [*rows[:number], row, *rows[number + 1 :]]


ROWS = [{"img_path": name, "sentences": [text]} for name, text in PAIRS]
IMAGES = karpathy()["images"]
XM3600 = [{"image/key": name, "de": {"caption": [text]}} for name, text in PAIRS]
BAD = {
    "broken line": (json_lines(ROWS[:4]) + "{broken\n" + json_lines(ROWS[5:]), "damaged line", ":5: not valid JSON"),
    "missing": (
        json_lines(spoiled(ROWS, 4, {"img_path": "x.jpg"})),
        "missing field",
        ":5 field 'sentences': is missing",
    ),
    "url": (json_lines(spoiled(ROWS, 4, {"img_path": "x", "sentences": "http://x.org/a b"})), None, None),
    "url alone": (
        json_lines(spoiled(ROWS, 4, {"img_path": "x", "sentences": "http://x.org/a"})),
        "wrong column",
        ":5 field 'caption': 'http://x.org/a' is a URL, no caption",
    ),
    "karpathy without sentences": (
        json.dumps({"images": spoiled(IMAGES, 4, {"filename": "x.jpg", "split": "test"})}),
        "missing field",
        ":5 field 'images': image without filename or sentences (row 5)",
    ),
    "karpathy with none": (
        json.dumps({"images": spoiled(IMAGES, 4, {"filename": "x.jpg", "split": "test", "sentences": []})}),
        "image without caption",
        ":5 field 'sentences': 'x.jpg' has no caption (row 5)",
    ),
    "xm3600 without key": (
        json_lines(spoiled(XM3600, 4, {"de": {"caption": ["x"]}})),
        "missing field",
        ":5: has no 'image/key'",
    ),
    "xm3600 without language": (
        json_lines(spoiled(XM3600, 4, {"image/key": "x"})),
        "image without caption",
        ":5 field 'de': 'x' has no caption in 'de'",
    ),
    "token without number": (
        CONTENTS["token"].replace("n4.jpg#0", "n4.jpg"),
        "wrong column count",
        ":5: expected 'name#number <tab> caption'",
    ),
    "image without caption": (
        json.dumps(coco(annotations=[*range(4), *range(5, 20)])),
        "image without caption",
        ":5 field 'image': 'n4.jpg'",
    ),
    "caption without image": (
        json.dumps(coco(images=[*range(4), *range(5, 20)])),
        "caption without image",
        ":5 field 'annotations': image_id 4 is of no image in 'images' (row 5)",
    ),
    "two images of one id": (
        json.dumps({**coco(), "images": [*coco()["images"], {"id": 4, "file_name": "x.jpg"}]}),
        "image id conflict",
        ":21 field 'images': image id 4 is that of 'n4.jpg' (row 5) and of 'x.jpg'; its captions are left out (row 21)",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_one_bad_row_is_counted_shown_and_obeys_the_policy(name, tmp_path):
    content, kind, example = BAD[name]
    path = tmp_path / "captions"
    path.write_text(content)
    options = {"lang": "de", "split": "test"}
    table = read_captions(path, **options)
    if kind is None:
        assert len(table) == 20 and not table.problems
        return
    assert table.captions == [text for n, text in enumerate(TEXTS) if n != 4] and dict(table.problems.counts) == {
        kind: 1
    }
    assert table.problems.examples[kind][0].startswith(f"{path}{example}")
    assert table.problems.left_out == (0 if kind == "image without caption" else 1)
    for policy in ({"on_problem": "error"}, {"max_problems": 0}):
        with pytest.raises(DataError):
            read_captions(path, **options, **policy)
    assert len(read_captions(path, **options, max_problems=1)) == 19


OF_LINES = [name for name in CONTENTS if CONTENTS[name].count("\n{")]


@pytest.mark.parametrize("name", OF_LINES)
def test_a_damaged_line_is_told_as_such(name, tmp_path, caplog):
    first, *others = CONTENTS[name].splitlines(keepends=True)
    path = tmp_path / "captions.jsonl"
    path.write_text("".join([first, '{"image": "a.jpg", "captio\n', *others]))
    table = read_captions(path, lang="de")
    two = name == "winoground"  # captions a line
    assert table.captions == TEXTS and table.problems.counts == {"damaged line": 1}
    assert table.problems.left_out == 1 + two
    lost = "2 captions" if two else "1 caption"
    told = f"{path}: 1 damaged line; {lost} left out (--on-problem error stops at the first one)"
    assert told in caplog.text and f"damaged line: {path}:2: not valid JSON: " in caplog.text
    with pytest.raises(DataError, match="jsonl:2: not valid JSON: .* mend it, or choose --on-problem skip to count"):
        read_captions(path, lang="de", on_problem="error")


def test_ids_given_twice_are_noted(tmp_path):
    content = coco()
    content["annotations"][3]["id"] = 50
    content["images"].append(content["images"][2])
    (tmp_path / "c.json").write_text(json.dumps(content))
    table = read_captions(tmp_path / "c.json", on_problem="error")
    assert table.captions == TEXTS and dict(table.problems.counts) == {"repeated id": 2}
    assert table.problems.examples["repeated id"] == [
        f"{tmp_path}/c.json:4 field 'annotations': annotation id 50 is that of row 1, too; both are kept (row 4)",
        f"{tmp_path}/c.json:21 field 'images': image id 2 is that of row 3, too, with the same name (row 21)",
    ]


def test_an_image_listed_twice(tmp_path):
    (tmp_path / "c.json").write_text(json.dumps(coco()))
    (tmp_path / "list").write_text("a.jpg 3\nb.jpg 4\n\nc.jpg 3\n")
    table = read_captions(tmp_path / "c.json", image_list=tmp_path / "list")
    assert table.images == ["a.jpg", "b.jpg"] and table.captions == TEXTS[3:5]
    assert table.problems.examples == {
        "image id conflict": [
            f"{tmp_path}/list:4 field 'image': image 3 is listed as 'a.jpg' in line 1 already; that one counts (row 4)"
        ]
    }


def test_json_lines_that_are_cut_off(tmp_path):
    for content in (CONTENTS["jsonl"][:-20], CONTENTS["xm3600"][:-20]):
        (tmp_path / "c").write_text(content)
        with pytest.raises(DataError, match="c:20: not valid JSON: .*the file ends here: truncated"):
            read_captions(tmp_path / "c", lang="de")


def test_quotation_marks_that_do_not_fit_csv(tmp_path):
    (tmp_path / "c").write_text('image,caption\na.jpg,"one ""big""\ndog"\nb.jpg,two\n')
    assert read_captions(tmp_path / "c").captions == ['one "big" dog', "two"]
    for content, line in (
        ('image,caption\na.jpg,one\nb.jpg,"two\nc.jpg,three\n', 3),
        ('image,caption\na.jpg,"x"y\n', 2),
    ):
        (tmp_path / "c").write_text(content)
        with pytest.raises(DataError, match=f"c:{line}: quotation marks do not fit CSV"):
            read_captions(tmp_path / "c")
    (tmp_path / "c").write_text("a.jpg,one\n")
    with pytest.raises(DataError, match="c:1: has no header that names image and caption"):
        read_captions(tmp_path / "c", format="csv")


def test_fields_that_could_each_be_the_caption(tmp_path):
    (tmp_path / "c").write_text(
        json_lines({"file_name": name, "text": text, "sentences": ["x"]} for name, text in PAIRS)
    )
    with pytest.raises(
        DataError, match="fields 'sentences' and 'text' could each be the caption; say which: --captions-col"
    ):
        read_captions(tmp_path / "c")
    assert read_captions(tmp_path / "c", columns="image=file_name,caption=text").captions == TEXTS


def test_english_beside_captions_in_rows(tmp_path):
    rows = [{"image": name, "caption": text, "en": f"{n}."} for n, (name, text) in enumerate(PAIRS)]
    (tmp_path / "c").write_text(json_lines(spoiled(rows, 4, {"image": "x", "caption": "y"})))
    assert read_captions(tmp_path / "c").english is None
    table = read_captions(tmp_path / "c", columns="image=image,caption=caption,english=en")
    assert table.captions == TEXTS[:4] + TEXTS[5:] and table.english == [f"{n}." for n in range(20) if n != 4]
    assert table.problems.examples == {"missing field": [f"{tmp_path}/c:5 field 'en': is missing"]}


# ---- names of pictures


@pytest.mark.parametrize("form", ["json", "token", "aligned"])
def test_a_number_behind_a_name_is_no_part_of_it(form, tmp_path):
    """But where there is a file that is called so."""
    names = ["a.jpg#0", "a.jpg#1", "b.jpg#0"]
    options = {}
    if form == "json":
        (tmp_path / "c").write_text(json.dumps([{"image": name, "caption": name[0]} for name in names]))
    elif form == "token":
        (tmp_path / "c").write_text("".join(f"{name}\t{name[0]}\n" for name in names))
    else:
        (tmp_path / "c").write_text("a\na\nb\n")
        (tmp_path / "i").write_text("\n".join(names) + "\n\n")
        options["image_list"] = tmp_path / "i"
    assert read_captions(tmp_path / "c", **options).images == ["a.jpg", "b.jpg"]
    for name in ("a.jpg", "a.jpg#1", "b.jpg"):
        (tmp_path / name).touch()
    table = read_captions(tmp_path / "c", image_root=str(tmp_path), **options)
    assert table.images == ["a.jpg", "a.jpg#1", "b.jpg"] and table.image_rows.tolist() == [0, 1, 2]


def test_names_without_an_ending_keep_their_number(tmp_path):
    (tmp_path / "c").write_text(json.dumps([{"image": f"scene#{n}", "caption": "x"} for n in range(2)]))
    assert read_captions(tmp_path / "c").images == ["scene#0", "scene#1"]


def test_files_in_cocos_folders_and_with_endings(tmp_path, caplog):
    root = tmp_path / "coco"
    here, there, other = (f"COCO_{split}2014_{n:012d}.jpg" for n, split in enumerate(("val", "train", "val")))
    for name in (here, f"train2014/{there}", "sub/key.JPG", "two.png", "two.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    names = [here, there, other, "sub/key", "two"]
    (tmp_path / "c").write_text(json.dumps([{"image": name, "caption": "x"} for name in names]))
    caplog.set_level("INFO")
    table = read_captions(tmp_path / "c", image_root=str(root))
    assert table.images == [here, f"train2014/{there}", other, "sub/key.JPG", "two"]
    assert (
        f"1 image names: found in the folder that its data set has for it ('{there}' is 'train2014/{there}')"
        in caplog.text
    )
    assert "1 image names: found with the ending of its file ('sub/key' is 'sub/key.JPG')" in caplog.text
    assert read_captions(tmp_path / "c").images == names


# ---- aligned files


def test_blank_lines_at_the_end_of_aligned_files_are_none(tmp_path):
    (tmp_path / "c").write_text("eins\r\n\r\ndrei\r\n\r\n")
    (tmp_path / "i").write_text("a.jpg\nb.jpg\nc.jpg\n")
    table = read_captions(tmp_path / "c", image_list=tmp_path / "i")
    assert table.captions == ["eins", "drei"] and dict(table.problems.counts) == {"empty caption": 1}
    (tmp_path / "i").write_text("a.jpg\nb.jpg\n\n\n")
    with pytest.raises(DataError, match="c: has no line|i: has no line"):
        (tmp_path / "c").write_text("eins\nzwei\n\n\ndrei\n")
        read_captions(tmp_path / "c", image_list=tmp_path / "i")


def test_a_header_of_aligned_files(tmp_path):
    (tmp_path / "c").write_text("\n".join(["caption", *TEXTS]))
    (tmp_path / "i").write_text("\n".join(["image", *NAMES]))
    with pytest.raises(DataError, match="c:1: the first image is called 'image', the others as files: a header"):
        read_captions(tmp_path / "c", image_list=tmp_path / "i")


def test_a_list_of_images_where_captions_belong(tmp_path):
    (tmp_path / "c").write_text("\n".join(TEXTS))
    (tmp_path / "i").write_text("\n".join(NAMES))
    with pytest.raises(
        DataError, match="i: no usable caption: 20 wrong column; first: .*i:1 field 'caption': 'n0.jpg' is a file"
    ):
        read_captions(tmp_path / "i", image_list=tmp_path / "c")


def test_urls_are_no_files_under_an_image_root(tmp_path):
    (tmp_path / "c").write_text("".join(f"{text}\thttp://a.org/{name}\n" for name, text in PAIRS))
    assert read_captions(tmp_path / "c").images[0] == "http://a.org/n0.jpg"
    with pytest.raises(DataError, match="c: its images are URLs, as 'http://a.org/n0.jpg', no files under"):
        read_captions(tmp_path / "c", image_root=str(tmp_path))
