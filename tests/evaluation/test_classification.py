"""Zero-shot classification with a model that sees colours: prompts, languages, results, and what is refused."""

import csv
import json
import logging

import numpy as np
import pytest
import torch
from PIL import Image

from mlvl_fairseq.data.images.transforms import ImageTransform
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.evaluation.evaluators import EVALUATORS
from mlvl_fairseq.evaluation.metrics.query_ranks import QueryRanks
from mlvl_fairseq.evaluation.signature import parse_signature
from mlvl_fairseq.inference.class_vectors import class_vectors
from mlvl_fairseq.inference.encoder import Encoder
from mlvl_fairseq.networks.base import Encoded

WORDS = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "rot": (1, 0, 0), "blau": (0, 0, 1)}
COLOURS = {"red": (230, 20, 30), "green": (10, 220, 30), "blue": (30, 10, 240)}


class Colours(torch.nn.Module):
    """A picture is its mean colour."""

    preprocess, embed_dim, max_length, feature_dim = ImageTransform("clip", 8), 3, 16, 3

    def encode_image(self, pixels):
        return Encoded(pixels.mean((2, 3)) + 2)

    def encode_features(self, features):
        return Encoded(features)


class Tokens:
    name = "words"


class ColourEncoder(Encoder):
    """A text is the colour that it names, tinted by its number of letters."""

    def encode_texts(self, captions, lang=None, batch_size=256, progress=None):
        self.asked.append((lang, len(captions)))
        return np.array([vector_of(caption) for caption in captions], np.float32)


def vector_of(caption):
    own = sum((np.array(vector, float) for word, vector in WORDS.items() if word in caption), np.zeros(3))
    return 3 * own + [0.01 * len(caption), 0.3, 0.1]


@pytest.fixture
def encoder(monkeypatch):
    """Every checkpoint is this model."""
    model = ColourEncoder(Colours(), Tokens(), "sha", [], "model.pt")
    model.asked = []
    monkeypatch.setattr(Encoder, "load", lambda path, **options: model)
    return model


@pytest.fixture
def root(tmp_path):
    """Nine pictures of three colours; one red one is blue."""
    for name, colour in COLOURS.items():
        for number in range(3):
            path = tmp_path / "set" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            shade = np.array(COLOURS["blue"] if (name, number) == ("red", 1) else colour, np.uint8)
            pixels = np.broadcast_to(shade, (9, 9, 3)).copy()
            pixels[:3] += 5 + number
            Image.fromarray(pixels).save(path)
    return tmp_path / "set"


@pytest.fixture
def evaluate(run_here, root, encoder, tmp_path, capsys):
    """``evaluate(*options)``: exit status, JSON that was printed (or None), and standard error."""

    def run(*options, data_set="folder", place=None):
        command = ["classification", "--checkpoint", "x.pt", "--data-set", data_set, "--root", place or root]
        with pytest.raises(SystemExit) as exit:
            run_here("mlvl-evaluate", *command, "--format", "json", *options)
        out, err = capsys.readouterr()
        return exit.value.code or 0, json.loads(out) if out else None, err

    return run


def test_scores_and_signature(evaluate, encoder):
    status, scores, _ = evaluate()
    assert status == 0 and list(scores) == ["top1", "mean_per_class", "signature"]
    assert [scores["top1"], scores["mean_per_class"]] == pytest.approx([800 / 9] * 2)
    signature = parse_signature(scores["signature"])
    assert signature.pop("data") and signature.pop("version")
    assert signature.pop("prompts").endswith(" (photo of {})")
    assert signature == {
        "split": "test", "lang": "en", "images": "9", "texts": "3", "tok": "words", "maxlen": "16",
        "precision": "fp32", "set": "folder", "classes": "3", "ties": "index",
    }  # fmt: skip
    assert encoder.asked == [("en", 3)]


def test_prompts_are_the_mean_of_unit_vectors(encoder, monkeypatch):
    """In float64; with blocks of any size; each template once a class."""
    names, templates = ["red", "green thing", "blue"], ["{}", "a photo of {}", "{c} and nothing else of any colour"]
    expected = []
    for name in names:
        prompts = [vector_of(template.replace("{c}", "{}").replace("{}", name)) for template in templates]
        mean = sum(vector / np.linalg.norm(vector) for vector in prompts) / 3
        expected.append(mean / np.linalg.norm(mean))
    for limit in (1, 6, 1000):
        monkeypatch.setattr("mlvl_fairseq.inference.class_vectors.TEXTS_AT_ONCE", limit)
        encoder.asked.clear()
        np.testing.assert_allclose(class_vectors(encoder, names, templates, "en"), expected, atol=1e-6)
        assert sum(count for _, count in encoder.asked) == 9 and encoder.asked[0][1] == min(9, max(limit // 3, 1) * 3)


def test_a_class_without_direction_is_named(encoder, monkeypatch):
    monkeypatch.setattr(encoder, "encode_texts", lambda texts, lang: np.full((len(texts), 3), np.nan))
    with pytest.raises(UserError, match="model.pt: no direction for 2 classes, such as 'red'; check it"):
        class_vectors(encoder, ["red", "blue"], ["{}"], "en")


def test_a_folder_of_results(evaluate, encoder, root, tmp_path):
    folder = ["--output-dir", tmp_path / "out", "--names", tmp_path / "names.{lang}"]
    for lang, names in (("de", "blau\ngruen\nrot\n"), ("en", "blue\ngreen\nred\n")):
        (tmp_path / f"names.{lang}").write_text(names)
    status, scores, _ = evaluate(*folder, "--lang", "de,en")
    assert status == 0 and encoder.asked == [("de", 3), ("en", 3)]
    assert {path.name for path in (tmp_path / "out").glob("[a-z]*")} == {
        "settings.json",
        *(
            f"{lang}.test.{end}"
            for lang in ("de", "en")
            for end in ("json", "ranks.npz", "classes.csv", "confusion.png")
        ),
    }
    ranks = QueryRanks.load(tmp_path / "out" / "en.test.ranks.npz")
    assert 100 * np.mean(ranks.text_ranks < 1) == pytest.approx(scores["languages"]["en"]["top1"])
    assert len(set(ranks.images.tolist())) == 9 and ranks.text_to_image.tolist() == list(range(9))
    rows = list(csv.DictReader((tmp_path / "out" / "en.test.classes.csv").open()))
    assert rows[2] == {
        "class": "red", "name": "red", "images": "3", "top1": "66.6667", "top5": "100.0000", "most_taken_for": "blue",
        "times": "1",
    }  # fmt: skip
    with Image.open(tmp_path / "out" / "en.test.confusion.png") as image:
        assert min(image.size) > 300
    again = evaluate(*folder, "--lang", "de,en")
    assert again[:2] == (0, scores) and len(encoder.asked) == 2, "nothing is computed again"
    (tmp_path / "names.de").write_text("blau\ngrün\nrot\n")
    status, _, error = evaluate(*folder, "--lang", "de,en")
    assert status == 2 and "holds the scores of other data than" in error and "with these prompts" in error


def test_other_prompts_do_not_continue_a_folder(evaluate, tmp_path):
    folder = ["--output-dir", tmp_path / "out"]
    assert evaluate(*folder)[0] == 0 == evaluate(*folder)[0]
    status, _, error = evaluate(*folder, "--template", "a {}")
    assert status == 2 and "holds the scores of other data" in error
    assert evaluate(*folder, "--reference")[0] == 2


@pytest.mark.parametrize("option", ["--names", "--labels", "--templates"])
def test_a_missing_file_of_a_language_is_told_with_those_that_are_there(evaluate, tmp_path, option):
    (tmp_path / "of.fr").touch()
    status, _, error = evaluate(option, tmp_path / "of.{lang}", "--lang", "de")
    assert status == 2 and f"{tmp_path}/of.de: no such file" in error
    assert error.endswith(f"; '{tmp_path}/of.{{lang}}' is there in: fr\n")


def test_labels_of_a_language_are_a_subset(evaluate, encoder, tmp_path):
    (tmp_path / "labels.json").write_text(json.dumps({"DE": [[2, 0], ["rot", "blau"]]}))
    status, scores, _ = evaluate("--labels", tmp_path / "labels.json", "--lang", "de", "--template", "Foto von {}")
    signature = parse_signature(scores["signature"])
    assert (signature["classes"], signature["images"], signature["texts"]) == ("2", "6", "2")
    assert scores["top1"] == pytest.approx(500 / 6) and encoder.asked == [("de", 2)]


def test_features_instead_of_pictures(evaluate, tmp_path, root):
    names = [f"{colour}/{number}.png" for colour in ("red", "green", "blue") for number in range(3)]
    np.save(tmp_path / "x.npy", np.repeat(np.eye(3, dtype=np.float32), 3, axis=0))
    (tmp_path / "x.txt").write_text("\n".join(names) + "\n")
    given = ["--image-features", tmp_path / "x.npy", "--image-list", tmp_path / "x.txt"]
    assert evaluate(*given)[1]["top1"] == 100
    status, _, error = evaluate(*given[:2])
    assert status == 2 and "--image-features FILE.npy and --image-list FILE.txt are given together" in error


def test_pictures_that_cannot_be_read(evaluate, root, tmp_path, caplog):
    (root / "green" / "0.png").write_bytes(b"nothing")
    status, _, error = evaluate()
    assert status == 2 and "green/0.png: cannot be decoded" in error
    with caplog.at_level(logging.WARNING):
        status, scores, _ = evaluate("--bad-image", "skip", "--output-dir", tmp_path / "out")
    assert status == 0 and scores["left_out"] == {"images": ["green/0.png"], "texts": 0}
    assert scores["top1"] == pytest.approx(700 / 8) and scores["mean_per_class"] == pytest.approx(100 * (2 + 2 / 3) / 3)
    assert "en: 1 images that cannot be used are left out: green/0.png" in caplog.text
    assert evaluate("--bad-image", "skip", "--output-dir", tmp_path / "out")[1] == scores
    assert evaluate("--output-dir", tmp_path / "out")[0] == 2


def test_a_picture_of_one_pixel_is_told(evaluate, root, caplog):
    Image.new("RGB", (1, 1), COLOURS["green"]).save(root / "green" / "dot.png")
    with caplog.at_level(logging.WARNING):
        status, scores, _ = evaluate()
    assert status == 0 and scores["top1"] == 90
    assert "1 of 10 pictures show (nearly) one colour only" in caplog.text


@pytest.mark.parametrize(
    "options, message",
    [
        (["--template", "a photo"], "--template: template 'a photo' has no place for the class: write {} there"),
        (["--template", ""], "--template: an empty template"),
        (["--template", "a {}", "--template", "a {}"], "--template: template 'a {}' is given twice"),
        (["--template", "a {}", "--templates", "openai"], "give either --template TEXT or --templates LIST|FILE"),
        (["--names", "x", "--labels", "y"], "give either --names FILE, of all classes, or --labels FILE"),
        (["--names", "x", "--lang", "de,en"], "--names 'x' needs {lang} where the language stands"),
        (["--names", "nowhere"], "nowhere: no such file"),
        (["--top-k", "4"], "--top-k 4: there are 3 classes; leave it out"),
        (["--top-k", "0"], "0 is not a whole number of at least 1"),
        (["--split", "a/b"], "is no name of a split"),
        (["--data-set", "cifar"], "invalid choice: 'cifar'"),
    ],
)
def test_wrong_options(evaluate, encoder, options, message):
    status, _, error = evaluate(*options)
    last = [line for line in error.splitlines() if "error: " in line]
    assert status == 2 and message in error and len(last) == 1 and "Traceback" not in error and not encoder.asked


def test_a_names_file_that_lacks_a_class(evaluate, tmp_path):
    (tmp_path / "names").write_text("red\trot\nblue\tblau\n")
    status, _, error = evaluate("--names", tmp_path / "names")
    assert status == 2 and "names: has no name for 1 of 3 classes, such as 'green'" in error


def test_the_published_prompt_of_each_data_set(tmp_path):
    """FashionMNIST has SVHN's, by mistake; ImageNet's sets mask all but 128 classes."""
    found = {}
    for data_set in ("imagenet_v2", "imagenet_a", "cifar100", "svhn", "fashion_mnist", "eurosat"):
        for reference in (False, True):
            evaluator = EVALUATORS["classification"]
            one = evaluator(evaluator.Options(data_set=data_set, root="x", reference=reference, lang=["en"]))
            found[data_set, reference] = (*one._templates("en"), one.top_k)
    number, photo = "photo of the number {}", "photo of {}"
    assert found["svhn", False] == found["svhn", True] == (number, None)
    assert (found["fashion_mnist", False], found["fashion_mnist", True]) == ((photo, None), (number, None))
    assert {found[name, True] for name in ("imagenet_v2", "imagenet_a")} == {(photo, 128)}
    assert {found[name, False] for name in ("imagenet_v2", "imagenet_a", "cifar100", "eurosat")} == {(photo, None)}


def test_reports_show_and_compare_it(evaluate, run_here, tmp_path, capsys):
    for model, template in (("one", "photo of {}"), ("two", "red green {}")):
        evaluate("--template", template, "--output-dir", tmp_path / "models" / model)
    command = ["mlvl-report", tmp_path / "models", "--output", tmp_path / "report", "--compare", "one", "two"]
    with pytest.raises(SystemExit) as exit:
        run_here(*command, "--format", "md", "csv")
    text = capsys.readouterr().out
    assert exit.value.code == 0 and "88.9" in text and "one minus two" in text
    first, second = (
        json.loads((tmp_path / "models" / model / "en.test.json").read_text())["top1"] for model in ("one", "two")
    )
    assert first > second
    (row,) = list(csv.DictReader((tmp_path / "report" / "comparisons.csv").open()))
    assert row["metric"] == "top1" and float(row["difference"]) == pytest.approx(first - second, abs=1e-3)
    score = tmp_path / "models" / "two" / "en.test.json"
    score.write_text(score.read_text().replace(f'"top1": {second}', f'"top1": {second + 1}'))
    with pytest.raises(SystemExit) as exit:
        run_here(*command, "--format", "md")
    assert exit.value.code == 2 and "its ranks on en do not give its score" in capsys.readouterr().err
