"""Caption readers, their problem reports, and English pairing."""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest

from mlvl_fairseq.data.captions import CaptionReader, Problems, read_captions, register_reader
from mlvl_fairseq.data.captions.reading import READERS, readers
from mlvl_fairseq.errors import DataError, UserError

SHARED = os.environ.get("MLVL_SHARED_DATA")


def write(path: Path, content) -> Path:
    """Write text, bytes, a JSON value (lists, dicts) or, for ``*.gz``, any of them compressed."""
    if isinstance(content, (list, dict)):
        content = json.dumps(content, ensure_ascii=False)
    data = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def row(image, caption, **fields):
    return {"image": image, "caption": caption, **fields}


def rows_of(table):
    """The table as plain tuples ``(line, image, caption)``."""
    images = [table.images[i] for i in table.image_rows]
    return list(zip(table.lines.tolist(), images, table.captions))


# ---- formats


@pytest.mark.parametrize("name", ["c.json", "c.json.gz", "c.captions"])
def test_json_list_with_one_or_many_captions_a_row(tmp_path, name):
    content = [row("b/2.jpg", ["zwei", "三"], image_id=7), row("/abs/1.jpg", "eins"), row("b/2.jpg", " vier ", x=[])]
    table = read_captions(write(tmp_path / name, content))
    assert table.images == ["b/2.jpg", "/abs/1.jpg"]
    assert rows_of(table) == [
        (1, "b/2.jpg", "zwei"), (1, "b/2.jpg", "三"), (2, "/abs/1.jpg", "eins"), (3, "b/2.jpg", "vier")
    ]  # fmt: skip
    assert table.image_rows.dtype == np.int32 and table.english is None and not table.problems


@pytest.mark.parametrize("name", ["t.tsv", "t.tsv.gz", "t.train"])
def test_triplets_and_pairs(tmp_path, name):
    table = read_captions(write(tmp_path / name, "a.jpg\ta dog\tein Hund\r\nb.jpg\ta cat\teine Katze\na.jpg\tx\ty"))
    assert rows_of(table) == [(1, "a.jpg", "ein Hund"), (2, "b.jpg", "eine Katze"), (3, "a.jpg", "y")]
    assert table.english == ["a dog", "a cat", "x"]
    pairs = read_captions(write(tmp_path / name, "\ufeffa.jpg\tein Hund\na.jpg\tnoch einer\n"))
    assert rows_of(pairs) == [(1, "a.jpg", "ein Hund"), (2, "a.jpg", "noch einer")] and pairs.english is None


def test_only_newlines_end_a_line(tmp_path):
    path = write(tmp_path / "t.tsv", "a.jpg\tone\u2028two\nb.jpg\tthree\x85four\rfive\n")
    table = read_captions(path)
    assert table.captions == ["one two", "three four five"]
    assert table.problems.counts == {"control characters": 2} and table.problems.left_out == 0


def test_aligned_text(tmp_path):
    images = write(tmp_path / "images.txt", "a.jpg\nb.jpg\na.jpg\n")
    english = write(tmp_path / "train.en.gz", "one\ntwo\nthree\n")
    target = write(tmp_path / "train.de", "eins\n\ndrei\n")
    table = read_captions(target, image_list=images, english=english)
    assert rows_of(table) == [(1, "a.jpg", "eins"), (3, "a.jpg", "drei")] and table.images == ["a.jpg"]
    assert table.english == ["one", "three"]
    assert table.problems.examples == {"empty caption": [f"{target}:2 field 'caption': is empty"]}
    assert read_captions(target, image_list=images, format="aligned").english is None


@pytest.mark.parametrize("short", ["images", "target", "english"])
def test_aligned_files_of_different_length_name_the_short_one(tmp_path, short):
    paths = {name: write(tmp_path / name, "a\nb\n" if name == short else "a\nb\nc\n") for name in
             ("images", "target", "english")}  # fmt: skip
    with pytest.raises(DataError, match=f"{short}: has no line 3, but .* equal length"):
        read_captions(paths["target"], image_list=paths["images"], english=paths["english"])


def test_faults_in_accompanying_files_name_those_files(tmp_path):
    images = write(tmp_path / "images", b"a\xff.jpg\nb.jpg\nc.jpg\n")
    english = write(tmp_path / "en", "one\n\nthree\n")
    problems = read_captions(write(tmp_path / "de", "eins\nzwei\ndrei\n"), image_list=images, english=english).problems
    assert problems.examples["bad encoding"][0].startswith(f"{images}:1 field 'image': 'a\\udcff.jpg'")
    assert problems.examples["empty caption"] == [f"{english}:2 field 'english': is empty"]


def test_content_decides_the_format_before_the_name_does(tmp_path):
    assert read_captions(write(tmp_path / "list.tsv", [row("a", "b")])).captions == ["b"]
    assert read_captions(write(tmp_path / "tabs.json", "a\tb\n")).captions == ["b"]
    tricky = write(tmp_path / "[1].tsv", "[1].jpg\tb\n")  # starts like JSON, has the columns and the name of a triplet
    assert rows_of(read_captions(tricky)) == [(1, "[1].jpg", "b")]


def test_unrecognisable_file_and_wrong_options(tmp_path):
    plain = write(tmp_path / "plain.txt", "just a caption\n")
    names = ", ".join(sorted(readers()))
    with pytest.raises(
        DataError, match=f"plain.txt: cannot tell its caption format from 'just a .*; name it: {names} "
    ):
        read_captions(plain)
    with pytest.raises(UserError, match="'aligned' needs: image_list"):
        read_captions(plain, format="aligned")
    with pytest.raises(UserError, match="'json' has no use for: english"):
        read_captions(plain, format="json", english=plain)
    with pytest.raises(UserError, match=f"unknown caption format 'xml'; choose one of auto, {names}$"):
        read_captions(plain, format="xml")
    with pytest.raises(UserError, match="on_problem is 'ignore'; choose one of skip, error"):
        read_captions(plain, format="triplet", on_problem="ignore")
    with pytest.raises(UserError, match="check_images needs an image root"):
        read_captions(plain, check_images=True)


def test_a_new_format_is_one_decorated_class(tmp_path):
    @register_reader("semicolon")
    class SemicolonReader(CaptionReader):
        patterns = ("*.scsv",)

        def sniff(self, head):
            return head.count(";") == 1

        def read(self, source, rows):
            for number, line in enumerate(Path(source.path).read_text().splitlines(), 1):
                rows.add(number, *line.split(";"))

    try:
        assert rows_of(read_captions(write(tmp_path / "x.scsv", "a;b\n"))) == [(1, "a", "b")]
        with pytest.raises(ValueError, match="registered already"):
            register_reader("semicolon")(SemicolonReader)
    finally:
        del READERS["semicolon"]


# ---- problems: counted, shown, never silently dropped

BAD_ROWS = [
    ({"image": "a.jpg"}, "missing field", "caption", "is missing"),
    ({"caption": "x"}, "missing field", "image", "is missing"),
    (row("  ", "x"), "missing field", "image", "has no image name"),
    (row(5, "x"), "wrong type", "image", "expected a string, found a number"),
    (row("a.jpg", None), "wrong type", "caption", "expected a string or a list of strings, found null"),
    (row("a.jpg", {"en": "x"}), "wrong type", "caption", "expected a string or a list of strings, found an object"),
    (row("a.jpg", [["x"]]), "wrong type", "caption", "expected strings in the list, found a list"),
    (["a.jpg", "x"], "wrong type", None, "expected an object, found a list"),
    (row("a.jpg", " \n\u3000"), "empty caption", "caption", "is empty"),
    (row("a.jpg", []), "empty caption", "caption", "is an empty list"),
    (row("a\x00.jpg", "x"), "control characters", "image", "'a\\x00.jpg' holds control characters"),
]


@pytest.mark.parametrize("bad, kind, field, why", BAD_ROWS)
def test_unusable_json_rows(tmp_path, bad, kind, field, why):
    path = write(tmp_path / "c.json", [row("ok.jpg", "fine"), bad, row("z.jpg", "last")])
    where = f"{path}:2" + (f" field '{field}'" if field else "")
    table = read_captions(path)
    assert rows_of(table) == [(1, "ok.jpg", "fine"), (3, "z.jpg", "last")]
    assert table.problems.counts == {kind: 1} and table.problems.left_out == 1
    assert table.problems.examples == {kind: [f"{where}: {why} (row 2)"]}
    assert str(path) in table.problems.summary() and why in table.problems.summary()
    with pytest.raises(DataError) as error:
        read_captions(path, on_problem="error")
    assert str(error.value).startswith(f"{where}: {why} (row 2); mend it") and "\n" not in str(error.value)
    assert (error.value.path, error.value.line, error.value.field) == (str(path), 2, field)


def test_one_bad_caption_does_not_cost_its_row(tmp_path):
    table = read_captions(write(tmp_path / "c.json", [row("a.jpg", ["x", "", 3, "y"])]))
    assert rows_of(table) == [(1, "a.jpg", "x"), (1, "a.jpg", "y")]
    assert table.problems.counts == {"empty caption": 1, "wrong type": 1} and table.problems.left_out == 2


def test_non_utf8_lines_are_counted_or_an_error(tmp_path):
    latin = "b.jpg\ta cafe\tein Café\n".encode("latin-1")
    path = write(tmp_path / "t.tsv", "a.jpg\tü\tÜ\n".encode() + latin + b"c.jpg\t\xc3\tc\nd.jpg\td\tD\n")
    table = read_captions(path)
    assert table.captions == ["Ü", "D"] and table.images == ["a.jpg", "d.jpg"]
    assert table.problems.examples["bad encoding"] == [
        f"{path}:2 field 'caption': 'ein Caf\\udce9' is not valid UTF-8",
        f"{path}:3 field 'english': '\\udcc3' is not valid UTF-8",
    ]
    with pytest.raises(DataError, match="t.tsv:2 field 'caption': .*not valid UTF-8"):
        read_captions(path, on_problem="error")


def test_non_utf8_bytes_and_lone_surrogates_in_json_cost_one_caption_each(tmp_path):
    content = b'[{"image": "a", "caption": ["gut", "Caf\xe9", "\\ud83d", "\\ud83d\\ude00"]}]'
    table = read_captions(write(tmp_path / "c.json", content))
    assert table.captions == ["gut", "\U0001f600"] and table.problems.counts == {"bad encoding": 2}


def test_wrong_column_counts_go_by_the_majority(tmp_path):
    path = write(tmp_path / "t.tsv", "a.jpg\tonly two\na.jpg\ten\tx\n\nb.jpg\ten\ty\nc.jpg\ten\tz\tmore\n")
    table = read_captions(path)
    assert rows_of(table) == [(2, "a.jpg", "x"), (4, "b.jpg", "y")]
    assert table.problems.counts == {"wrong column count": 3} and table.problems.left_out == 3
    expected = "expected 3 columns (image, English, caption) with tabs between them, found 2"
    assert table.problems.examples["wrong column count"][0] == f"{path}:1: {expected}"


def test_image_ids_of_two_images_are_noted_and_kept(tmp_path):
    ids = [("a", 5), ("b", 5), ("a", 5), ("c", [])]
    path = write(tmp_path / "c.json", [row(name, "x" * k, image_id=i) for k, (name, i) in enumerate(ids, 1)])
    table = read_captions(path, on_problem="error")  # notes never stop
    assert len(table) == 4 and table.problems.left_out == 0
    assert table.problems.examples["image id conflict"] == [
        f"{path}:2 field 'image_id': 5 is the id of 'a' already, here of 'b' (row 2)"
    ]
    assert table.problems.counts == {"image id conflict": 1, "wrong type": 1}


def test_duplicates_are_counted_and_kept_unless_dropped(tmp_path):
    content = [row("a", ["x", "y"]), row("b", "x"), row("a", "x"), row("b", "x"), row("a", "z")]
    path = write(tmp_path / "c.json", content)
    kept = read_captions(path, on_problem="error")
    assert len(kept) == 6 and kept.problems.counts == {"duplicate": 2} and kept.problems.left_out == 0
    dropped = read_captions(path, drop_duplicates=True, on_problem="error")
    assert rows_of(dropped) == [(1, "a", "x"), (1, "a", "y"), (2, "b", "x"), (5, "a", "z")]
    assert dropped.problems.left_out == 2
    assert dropped.problems.examples["duplicate"][0] == (
        f"{path}:3 field 'caption': 'a' already has this caption (row 1)"
    )


def test_same_target_beside_another_english_sentence_is_no_duplicate(tmp_path):
    path = write(tmp_path / "t.tsv", "a\ta dog\tHund\na\tthe dog\tHund\na\ta dog\tHund\n")
    table = read_captions(path, drop_duplicates=True)
    assert table.english == ["a dog", "the dog"] and table.problems.counts == {"duplicate": 1}


def test_missing_images(tmp_path):
    (tmp_path / "root" / "sub").mkdir(parents=True)
    for name in ("sub/b.jpg", "d.jpg"):
        (tmp_path / "root" / name).touch()
    absolute = str(tmp_path / "root" / "sub" / "b.jpg")
    names = ["sub/a.jpg", "sub/b.jpg", "none/c.jpg", "d.jpg", "sub", "sub/b.jpg", "sub/a.jpg", absolute]
    path = write(tmp_path / "t.tsv", "".join(f"{name}\tcaption {i}\n" for i, name in enumerate(names)))
    assert len(read_captions(path, image_root=tmp_path / "root")) == 8  # only checked on request
    table = read_captions(path, image_root=str(tmp_path / "root"), check_images=True)
    assert rows_of(table) == [
        (2, "sub/b.jpg", "caption 1"), (4, "d.jpg", "caption 3"),
        (6, "sub/b.jpg", "caption 5"), (8, "sub/b.jpg", "caption 7"),
    ]  # fmt: skip
    assert table.problems.counts == {"missing image": 3, "image name in two spellings": 1}
    assert table.problems.left_out == 4
    assert table.problems.examples["missing image"][0].startswith(
        f"{path}:1 field 'image': 'sub/a.jpg' is not under '{tmp_path}/root'; its 2 captions"
    )
    with pytest.raises(DataError, match="t.tsv:1 field 'image': 'sub/a.jpg' is not under"):
        read_captions(path, image_root=str(tmp_path / "root"), check_images=True, on_problem="error")
    with pytest.raises(DataError, match="none of its 5 images is under"):
        read_captions(write(tmp_path / "u.tsv", "".join(f"no{i}\tx\n" for i in range(5))), image_root=str(tmp_path),
                      check_images=True)  # fmt: skip
    with pytest.raises(UserError, match="image root '.*nowhere' is not a folder"):
        read_captions(path, image_root=str(tmp_path / "nowhere"), check_images=True)


def test_limit_on_unusable_captions(tmp_path):
    path = write(tmp_path / "t.tsv", "a.jpg\tx\nb.jpg\t\nb.jpg\ty\nb\nc.jpg\tz\n")
    assert len(read_captions(path, max_problems=2)) == 3
    with pytest.raises(DataError, match=r"t.tsv:4: .*found 1; more than 1 unusable caption \(1 empty caption"):
        read_captions(path, max_problems=1)


def test_only_the_first_examples_are_kept():
    problems = Problems(max_examples=2)
    for line in range(1, 6):
        problems.skip("empty caption", "is empty", "f.tsv", line, "caption")
    problems.note("duplicate", "again", "f.tsv", 9)
    assert problems.brief() == "5 empty caption, 1 duplicate" and problems.left_out == 5
    assert problems.summary().splitlines() == [
        "5 empty caption, 1 duplicate; 5 captions left out (--on-problem error stops at the first one)",
        "  empty caption: f.tsv:1 field 'caption': is empty",
        "  empty caption: f.tsv:2 field 'caption': is empty",
        "  empty caption: ... and 3 more",
        "  duplicate: f.tsv:9: again",
    ]
    assert Problems().summary() == "no problems" and not Problems()
    later = problems.later()
    later.note("duplicate", "again", "f.tsv", 9, left_out=1)
    assert later.summary().startswith("1 duplicate; 1 caption left out\n")  # no option decides about it
    pairs = Problems(things="pairs of sentences")
    for number, things in enumerate(("pair of sentences", "pairs of sentences"), 1):
        pairs.note("empty line", "is empty", "f.txt", number, left_out=1)
        assert f"; {number} {things} left out" in pairs.summary()


# ---- files that cannot be read at all are errors whatever the policy

STRUCTURAL = {
    "empty.json": (b"", "empty.json: is empty"),
    "spaces.json": (b"[ ]\n", "spaces.json: holds no caption"),
    "blank.json": (b"  \n", "blank.json: is empty"),
    "object.json": (
        b'{"captions": []}',
        "no usable caption: 1 missing field; first: .*object.json:1 field 'image': is missing",
    ),
    "syntax.json": (b'[{"image": "a", "caption": "x"},\n {"image" "b"}]', "syntax.json:2: .* JSON: .* column 11"),
    "comma.json": (b'[{"image": "a", "caption": "x"}\n\n {}]', "comma.json:3: .* JSON: Expecting ',' .* column 2"),
    "cut.json": (b'[{"image": "a", "caption": "x"},\n {"image": "b"', "cut.json:2: .* column 15 .*truncated"),
    "unclosed.json": (b'[{"image": "a", "caption": "x"}', "unclosed.json:1: .*the file ends here: truncated"),
    "more.json": (b'[{"image": "a", "caption": "x"}]\n[]', "more.json:2: not valid JSON: Extra data at column 1"),
    "more_empty.json": (b"[] x", "more_empty.json:1: not valid JSON: Extra data at column 4"),
    "deep.json": (b'[{"image": "a", "caption": ' + b"[" * 10**6, r"deep.json:1: is nested too deeply .*\(row 1\)"),
    "digits.json": (b"[{}, " + b"9" * 10**5 + b"]", r"digits.json:2: holds a number of too many digits \(row 2\)"),
    "utf16.json": ("[]".encode("utf-16"), "utf16.json: is UTF-16 text; convert it first: iconv"),
    "empty.tsv": (b"", "empty.tsv: is empty"),
    "none.tsv": (b"a.jpg\t\nb.jpg\t \n", "none.tsv: no usable caption: 2 empty caption; first: .*none.tsv:1 "),
    "wide.tsv": (b"a\tb\tc\td\n", r"wide.tsv:1: expected 2 \(image, caption\) or 3 .* columns, found 4"),
}


@pytest.mark.parametrize("name", STRUCTURAL)
def test_structural_faults(tmp_path, name):
    content, message = STRUCTURAL[name]
    with pytest.raises(DataError, match=message) as error:
        read_captions(write(tmp_path / name, content))
    assert "\n" not in str(error.value)


def test_explicit_format_of_an_empty_file(tmp_path):
    path = write(tmp_path / "x", "")
    with pytest.raises(DataError, match="x: is empty"):
        read_captions(path, format="triplet")
    with pytest.raises(DataError, match="x: holds no caption"):
        read_captions(path, format="aligned", image_list=path)


def test_absent_file_and_folder(tmp_path):
    with pytest.raises(DataError, match="absent.json: no such file"):
        read_captions(tmp_path / "absent.json")
    with pytest.raises(DataError, match="is a folder, not a regular file"):
        read_captions(tmp_path)


@pytest.mark.parametrize("name", ["t.tsv.gz", "t.json.gz"])
def test_truncated_and_damaged_gzip(tmp_path, name):
    rng = np.random.default_rng(0)
    texts = ["".join(map(chr, rng.integers(97, 123, 30))) for _ in range(2000)]
    lines = [f"{i}.jpg\t{text}\n" for i, text in enumerate(texts)]
    content = "".join(lines) if "tsv" in name else json.dumps([row("a", text) for text in texts], indent=0)
    path = write(tmp_path / name, content)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="truncated gzip file") as error:
        read_captions(path)
    assert 0.3 < error.value.line / (content.count("\n") + 1) < 0.7
    path.write_bytes(whole[:-8] + b"\0" * 8)  # checksum
    with pytest.raises(DataError, match=f"{name}:[0-9]+: damaged gzip file .*CRC"):
        read_captions(path)
    path.write_bytes(whole[:1000] + b"\xff" * 1000 + whole[2000:])
    with pytest.raises(DataError, match=f"{name}:[0-9]+: damaged gzip file"):
        read_captions(path)


# ---- real files

TRAIN_COUNTS = {"en": 35756, "de": 41795, "fr": 6993, "cs": 6993, "pt": 41930, "zh": 37674, "ar": 20900}


@pytest.mark.skipif(not SHARED, reason="MLVL_SHARED_DATA is not set")
def test_flickr8k_multilingual():
    folder = Path(SHARED) / "flickr8k_multilingual"
    for language, captions in TRAIN_COUNTS.items():
        options = {"image_root": str(folder / "images"), "check_images": True, "on_problem": "error"}
        train = read_captions(folder / f"train.{language}.json", **options)
        assert (len(train), len(train.images), train.problems.brief()) == (captions, 6993, "no problems")
        val = read_captions(folder / f"val.{language}.json", **options)
        assert len(val.images) == 242
        triplets = read_captions(folder / f"train.vision-en-{language}.tsv", **options)
        assert triplets.images == train.images and set(triplets.captions) >= set(train.captions)
