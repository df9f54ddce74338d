"""Files of examples as they are published: told by content, their images found, what is wrong in them counted."""

import gzip

import numpy as np
import pytest
from published_examples import (
    GQA,
    MARVL,
    NLVR2,
    XGQA,
    XVNLI,
    write_lines,
    write_published,
    write_whole,
)

from mlvl_fairseq.data.captions.table import Problems
from mlvl_fairseq.data.examples import ExampleImageOptions, ExampleImages, example_files, example_readers, read_examples
from mlvl_fairseq.data.examples.base import ExampleBuilder
from mlvl_fairseq.data.examples.texts import read_answers, weights
from mlvl_fairseq.errors import DataError, UserError


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    return folder, write_published(folder)


@pytest.fixture(scope="module")
def images(published):
    return ExampleImages(ExampleImageOptions(image_root=str(published[0] / "images")))


EXPECTED = {
    "xvnli": [
        ("36979.jpg#0r1e", ("flickr30k-images/36979.jpg",), "Two animals.", "entailment", {}, None, 1),
        ("36979.jpg#0r1c", ("flickr30k-images/36979.jpg",), "A cat sleeps.", "contradiction", {}, None, 2),
        ("1015118661.jpg#0r1n", ("flickr30k-images/1015118661.jpg",), "It runs to the left.", "neutral", {}, None, 4),
    ],
    "gqa": [
        ("07333408", ("gqa/2375429.jpg",), "What is on the white wall?", None, {"pipe": 1.0}, None, 1),
        ("1", ("gqa/n161313.jpg",), "Which side?", None, {"left": 0.3, "right": 0.9}, None, 2),
    ],
    "xgqa": [
        ("201307251", ("gqa/n161313.jpg",), "Ist es bewölkt?", None, {"no": 1.0}, None, 1),
        ("201640614", ("gqa/n235859.jpg",), "Wer trägt das Kleid?", None, {"woman": 1.0}, None, 2),
    ],
    "nlvr2": [
        (str(n), tuple(f"nlvr2/{name}" for name in row["images"]), row["sentence"], str(row["label"]), {}, None, n)
        for n, row in enumerate(NLVR2, 1)
    ],
    "marvl": [
        (
            "id-0",
            ("marvl-images/id/images/39-Panci/39-0.jpg", "marvl-images/id/images/39-Panci/39-11.jpg"),
            *("Ada dua panci.", "True", {}, "id", 1),
        )
    ],
    "marvl few-shot": [
        (
            "id-0",
            ("marvl_fewshot/id/all/39-n-5.jpg", "marvl_fewshot/id/all/39-n-2.jpg"),
            *("Ada dua panci.", "False", {}, "id", 1),
        )
    ],
}


def columns(examples):
    return [(e.id, e.images, e.text, e.label, e.answers, e.lang, e.line) for e in examples]


@pytest.mark.parametrize("name", EXPECTED)
def test_published_files_and_folders(published, images, name):
    found = read_examples(published[1][name], images)
    assert columns(found.examples) == EXPECTED[name]
    assert found.format == name.split()[0]
    assert found.images_per_text == len(EXPECTED[name][0][1])
    assert found.classes == {
        "xvnli": ("contradiction", "entailment", "neutral"),
        "nlvr2": ("False", "True"),
        "marvl": ("False", "True"),
    }.get(found.format, ())


def test_gzipped_and_by_name_of_the_format(published, images, tmp_path):
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(published[1]["xvnli"].read_bytes()))
    assert columns(read_examples(path, images).examples) == EXPECTED["xvnli"]
    assert columns(read_examples(path, images, format="xvnli").examples) == EXPECTED["xvnli"]
    with pytest.raises(UserError, match="--examples-format vqa: choose one of auto, gqa, marvl, nlvr2, xgqa, xvnli"):
        read_examples(path, images, format="vqa")


def test_no_sniff_is_true_of_two_formats(published):
    for name, path in published[1].items():
        head = path.read_text(encoding="utf-8")
        assert [key for key, reader in example_readers().items() if reader.sniff(head)] == [name.split()[0]]


def test_the_published_way_to_a_customised_data_set(tmp_path, images):
    """With the fields only that the published code's documentation asks for."""
    rows = [{"Flikr30kID": "36979", "gold_label": "neutral", "sentence2": "A dog."}]
    found = read_examples(write_lines(tmp_path / "a.jsonl", rows), images).examples
    assert columns(found) == [("1", ("flickr30k-images/36979.jpg",), "A dog.", "neutral", {}, None, 1)]
    rows = [{"sentence": "A.", "label": True, "images": ["images/" + "nlvr2/" + NLVR2[0]["images"][0]] * 2}]
    found = read_examples(write_whole(tmp_path / "b.json", rows), images).examples
    assert found[0].images == ("nlvr2/train/1-0-img0.png",) * 2 and found[0].label == "True"


def test_labels_that_annotators_did_not_agree_on(published, images):
    """14 of XVNLI's 1164 tests: left out as CCLM does, or kept without a label, as IGLUE counts."""
    left = read_examples(published[1]["xvnli"], images)
    kept = read_examples(published[1]["xvnli"], images, keep_unlabelled=True)
    assert [e.label for e in kept.examples] == ["entailment", "contradiction", None, "neutral"] and len(left) == 3
    assert left.problems.counts == kept.problems.counts == {"no gold label": 1}
    assert (left.problems.left_out, kept.problems.left_out) == (1, 0)
    assert left.problems.examples["no gold label"] == [f"{left.path}:3: its label is '-'"]
    assert len(read_examples(published[1]["xvnli"], images, on_problem="error")) == 3  # it is no error of the file's


BAD = [
    ("xvnli", write_lines, XVNLI, {"gold_label": "maybe"}, "unknown label", "label': 'maybe' is no label"),
    ("xvnli", write_lines, XVNLI, {"sentence2": "  "}, "empty text", "sentence2': is empty"),
    ("xvnli", write_lines, XVNLI, {"sentence2": None}, "missing field", "sentence2': is missing"),
    ("xvnli", write_lines, XVNLI, {"sentence2": "\ud800"}, "bad encoding", "is not valid UTF-8"),
    ("xvnli", write_lines, XVNLI, {"Flikr30kID": True}, "wrong type", "Flikr30kID': expected a string, found"),
    ("xvnli", write_lines, XVNLI, {"Flikr30kID": "7"}, "missing image", "'flickr30k-images/7.jpg' is not in "),
    ("xvnli", write_lines, XVNLI, {"Flikr30kID": "../../7"}, "missing image", "leads out of the image root"),
    ("gqa", write_whole, GQA, {"label": {}}, "no answer", "is a question without an answer"),
    ("gqa", write_whole, GQA, {"label": {"a": "b"}}, "wrong type", "label': 'b' is no score of 'a'"),
    ("gqa", write_whole, GQA, {"label": ["a"]}, "wrong type", "label': expected an object, found a list"),
    ("nlvr2", write_whole, NLVR2, {"images": ["train/1-0-img0.png"]}, "missing image", "names 1 of two images"),
    (
        "nlvr2",
        write_whole,
        NLVR2,
        {"images": ["train/1-0-img0.png", "x.png"]},
        "missing image",
        "image 2 of 2, 'nlvr2/x",
    ),
    ("nlvr2", write_whole, NLVR2, {"label": 1}, "wrong type", "label': expected true or false, found a number"),
    ("nlvr2", write_whole, NLVR2, {"label": "true"}, "unknown label", "'true' is no label; there are False, True"),
    ("marvl", write_lines, MARVL, {"right_img": ""}, "missing image", "right_img': names no image"),
]


@pytest.mark.parametrize("name, write, rows, change, kind, message", BAD, ids=range(len(BAD)))
def test_what_cannot_be_used_is_counted_or_an_error(tmp_path, images, name, write, rows, change, kind, message):
    lines = [rows[0], rows[-1], {**rows[0], **change}]
    path = write(tmp_path / ("marvl-id.jsonl" if name == "marvl" else "a.json"), lines)
    found = read_examples(path, images)
    assert len(found) == 2 and found.problems.counts == {kind: 1} and found.problems.left_out == 1
    example = found.problems.examples[kind][0]
    assert example.startswith(f"{path}:3") and message in example and "\n" not in example
    if kind != "no answer":  # published files have questions without one
        with pytest.raises(DataError, match="choose --on-problem skip to count and leave out such examples"):
            read_examples(path, images, on_problem="error")
        with pytest.raises(DataError, match="more than 0 unusable examples"):
            read_examples(path, images, max_problems=0)


@pytest.mark.parametrize("name, rows", [("xvnli", XVNLI), ("marvl", MARVL)])
def test_a_damaged_line_is_told_as_such(tmp_path, images, name, rows):
    path = write_lines(tmp_path / ("marvl-id.jsonl" if name == "marvl" else "a.json"), [rows[0], rows[-1], rows[0]])
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], lines[1][:-9] + "\n", lines[2]]))
    found = read_examples(path, images)
    assert len(found) == 2 and found.problems.counts == {"damaged line": 1}
    assert found.problems.examples["damaged line"][0].startswith(f"{path}:2: not valid JSON: ")


def test_files_that_are_of_no_use(tmp_path, images):
    def error(path, **options):
        with pytest.raises(UserError) as raised:
            read_examples(path, images, **options)
        assert "\n" not in str(raised.value)
        return str(raised.value)

    (tmp_path / "e.json").write_text("")
    assert error(tmp_path / "e.json").endswith("e.json: is empty")
    assert "cannot tell its format of examples" in error(write_whole(tmp_path / "b.json", {"a": 1}))
    assert error(tmp_path / "none.json").endswith("none.json: no such file")
    only = [{**XVNLI[0], "gold_label": "-"}]
    assert "no usable example: 1 no gold label; first: " in error(write_lines(tmp_path / "c.jsonl", only))
    elsewhere = write_lines(tmp_path / "d.jsonl", [{**XVNLI[0], "Flikr30kID": "5"}])
    assert "none of its images is in" in error(elsewhere) and "'flickr30k-images/5.jpg'" in error(elsewhere)
    cut = write_whole(tmp_path / "f.json", GQA)
    cut.write_text(cut.read_text()[:-20])
    assert ":1: not valid JSON" in error(cut)
    twice = tmp_path / "g.json"
    twice.write_text('{"1": {"question": "a", "imageId": "b"}, "1": {"question": "a", "imageId": "b"}}')
    assert "the key '1' occurs twice" in error(twice)
    assert "--classes a,b: " in error(write_whole(tmp_path / "h.json", GQA), classes=["a", "b"])


def test_names_of_images_by_a_template(published, tmp_path):
    folder, files = published

    def images_of(path, template, root="images"):
        options = ExampleImageOptions(image_root=str(folder / root), image_name=template)
        return read_examples(path, ExampleImages(options)).examples[0].images

    assert images_of(files["xvnli"], "{image}.jpg", "images/flickr30k-images") == ("36979.jpg",)
    assert images_of(files["xvnli"], "", "images/flickr30k-images") == ("36979.jpg",)
    assert images_of(files["marvl"], "marvl-images/{lang}/images/39-Panci/{name}") == EXPECTED["marvl"][0][1]
    with pytest.raises(UserError, match=r"have no \{concept\}; there are \{below\}, \{image\}, \{name\}"):
        images_of(files["xvnli"], "{concept}/{image}")
    with pytest.raises(UserError, match=r"--image-name \{image: "):
        images_of(files["xvnli"], "{image")


def test_given_features_have_the_names_of_their_list(published, tmp_path):
    names = [name for row in EXPECTED["xvnli"] for name in row[1]]
    (tmp_path / "f.txt").write_text("".join(f"{name}\n" for name in dict.fromkeys(reversed(names))))
    grids = np.arange(2 * 3 * 4, dtype=np.float16).reshape(2, 3, 4)
    np.save(tmp_path / "f.npy", grids)
    images = ExampleImages(ExampleImageOptions(image_features=str(tmp_path / "f.npy")))
    found = read_examples(published[1]["xvnli"], images).examples
    assert images.shape == (3, 4) and columns(found) == EXPECTED["xvnli"]
    np.testing.assert_array_equal(images.open(found[0].images[0]).numpy(), grids[1])
    with pytest.raises(UserError, match="give an .npy file"):
        ExampleImages(ExampleImageOptions(image_features="f.h5"))
    with pytest.raises(UserError, match="say where the images are: --image-root FOLDER, or --image-features FILE.npy"):
        ExampleImages(ExampleImageOptions())


def test_the_language_that_is_given_wins(published, images):
    given = read_examples(published[1]["marvl"], lang="sw").examples[0]
    assert given.lang == "sw" and given.images[0] == "marvl-images/sw/images/39-Panci/39-0.jpg"
    builder = ExampleBuilder("a.jsonl", ["neutral"], Problems("skip", None, things="examples"), lang="sw")
    builder.add(1, [{"image": "1"}], "A dog.", "text", "neutral", lang="id")
    assert builder.drafts[0].example.lang == "sw"


def test_files_of_languages():
    found = example_files("a.{lang}.json, b.json", ["de", "ar"], "--examples")
    assert found == {"a.de.json": "de", "a.ar.json": "ar", "b.json": None}
    for pattern, languages, message in [
        ("a.{lang}", [], "--examples a.{lang}: say which languages {lang} stands for: --langs en,de"),
        ("a,a", [], "--examples a,a: a is in it twice"),
        (" ,", [], "--examples: give a file of examples"),
        ("hdfs://host/a", [], "hdfs is not read from here"),
    ]:
        with pytest.raises(UserError) as raised:
            example_files(pattern, languages, "--examples")
        assert message in str(raised.value)


def test_answer_lists(tmp_path):
    """In the order of the file, as published: the numbers of GQA's are in another one."""
    assert read_answers(write_whole(tmp_path / "a.json", {"yes": 1, "pipe": 0, "no": 2})) == ["yes", "pipe", "no"]
    assert read_answers(write_whole(tmp_path / "b.json", ["yes", "no"])) == ["yes", "no"]
    for content, message in [
        (["a", "b", "a"], "'a' is in it twice"),
        ([], "holds no answer"),
        (["a", 1], "holds 1, which is no answer"),
        ("a", "holds a string; give a list of answers"),
    ]:
        with pytest.raises(DataError, match=message):
            read_answers(write_whole(tmp_path / "c.json", content))


def test_weights_of_answers():
    scores = {"left": 0.3, "right": 0.9, "up": 0.0}
    assert weights(scores, equal=False) == pytest.approx({"left": 0.25, "right": 0.75})
    assert weights(scores, equal=True) == pytest.approx(dict.fromkeys(scores, 1 / 3))
    assert weights({"a": 0, "b": 0}, equal=False) == {"a": 0.5, "b": 0.5}  # as published few-shot loaders have them


def test_the_best_answer(published, images):
    found = read_examples(published[1]["gqa"], images).examples
    assert [example.answer for example in found] == ["pipe", "right"]
    assert XGQA["201307251"]["answer"] == read_examples(published[1]["xgqa"], images).examples[0].answer
