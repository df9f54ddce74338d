"""`mlvl-evaluate nli`, `nlvr` and `vqa`: what the published code's networks say, what counts as wrong, what is told."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from golden_cclm_tuned import TABLE, pictures, tuned_network

from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.evaluation.evaluators import EVALUATORS, base, labelled_examples
from mlvl_fairseq.evaluation.evaluators.vqa import answer_ranks
from mlvl_fairseq.evaluation.metrics.query_ranks import QueryRanks
from mlvl_fairseq.evaluation.signature import parse_signature
from mlvl_fairseq.inference.encoder import Encoder
from mlvl_fairseq.inference.examples import EncodedImages, label_scores
from mlvl_fairseq.runs.result_folder import scores_folder

CLASSES = ["contradiction", "entailment", "neutral"]
HEADS = {
    "xvnli": {"heads": "labels", "num_labels": 3},
    "nlvr": {"heads": "labels", "num_labels": 2, "images_per_text": 2},
    "vqa": {"heads": "answers"},
}
ANSWERS = [f"answer {number}" for number in range(len(TABLE["vqa"]["candidates"]))]


def pieces(ids):
    return [piece for piece in ids if piece != 1]


@pytest.fixture(scope="module")
def networks():
    return {kind: tuned_network(kind, **options).eval() for kind, options in HEADS.items()}


@pytest.fixture
def encoder(networks, monkeypatch):
    """``encoder(kind)``: a golden network. A text is the number of its row of ids; image v of row r is ``r-v.jpg``."""

    def new(kind, choices=()):
        tokenizer = SimpleNamespace(pad=1, bos=0, eos=2, name="golden", prepared=lambda: tokenizer)
        tokenizer.langs, tokenizer.opened = [], []
        tokenizer.of_language = lambda lang: tokenizer.langs.append(lang) or tokenizer
        rows = {str(number): pieces(ids) for number, ids in enumerate(TABLE[kind]["tokens"])}
        tokenizer.tokenize = lambda texts, longest: [rows[text] for text in texts]
        answers = {a: pieces(ids)[1:-1] for a, ids in zip(ANSWERS, TABLE["vqa"]["candidates"])}
        tokenizer.encode_batch = lambda texts: [answers[text] for text in texts]
        images = pictures(kind)

        class Shown:
            def __init__(self, opener, transform):
                pass

            def __call__(self, name, example, generator):
                tokenizer.opened.append(name)
                if name.startswith("bad"):
                    raise DataError("is no picture", name)
                row, view = name.removesuffix(".jpg").split("-")
                return images[int(row), int(view)]

        monkeypatch.setattr(labelled_examples, "Shown", Shown)
        return Encoder(networks[kind], tokenizer, "sha", [], "cclm.pt", choices)

    return new


@pytest.fixture
def written(tmp_path):
    """``written(kind, rows)`` writes (text, image or images, label) as the data set does, and (empty) pictures."""

    def write(kind, rows, name="en"):
        path, images = tmp_path / f"{name}.json", []
        if kind == "xvnli":
            lines = [{"Flikr30kID": image, "gold_label": label, "sentence2": text} for text, image, label in rows]
            path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
            images = [f"{image}.jpg" for _, image, _ in rows]
        elif kind == "nlvr":
            path.write_text(json.dumps([{"sentence": t, "label": label, "images": i} for t, i, label in rows]))
            images = [image for _, pair, _ in rows for image in pair]
        else:
            path.write_text(
                json.dumps(
                    [{"img_id": i, "label": a, "question_id": str(n), "sent": t} for n, (t, i, a) in enumerate(rows)]
                )
            )
            images = [f"{image}.jpg" for _, image, _ in rows]
        for image in images:
            (tmp_path / image).touch()
        return {"examples": str(tmp_path / "{lang}.json"), "lang": ["en"], "image_root": str(tmp_path)}

    return write


def evaluate(kind, encoder, options, results=None):
    evaluator = EVALUATORS[kind](EVALUATORS[kind].Options(**options))
    return base.evaluate(evaluator, encoder, evaluator.read(), results)


XVNLI = [("0", "0-0", "entailment"), ("1", "1-0", "neutral"), ("2", "2-0", "contradiction"), ("0", "0-0", "-")]


def test_a_missing_file_is_told_with_the_languages_that_have_one(encoder, written):
    options = {**written("xvnli", XVNLI), "lang": ["de"]}
    with pytest.raises(DataError, match="/de.json: no such file; '.*/{lang}.json' is there in: en$"):
        evaluate("nli", encoder("xvnli"), options)


@pytest.mark.parametrize(
    "unlabelled, accuracy, told", [("wrong", 50.0, "1-wrong"), ("reference", 200 / 3, "1-left-out")]
)
def test_labels_of_the_published_network(encoder, written, tmp_path, unlabelled, accuracy, told):
    """By its logits the texts are entailed, entailed, contradicted."""
    assert np.argmax(TABLE["xvnli"]["logits"], axis=1).tolist() == [1, 1, 0]
    options, model = {**written("xvnli", XVNLI), "unlabelled": unlabelled}, encoder("xvnli")
    with scores_folder(tmp_path / "scores", "nli", "sha", {}) as results:
        found = evaluate("nli", model, options, results)["en"]
    assert found["accuracy"] == pytest.approx(accuracy)
    number = 4 if unlabelled == "wrong" else 3
    keys = parse_signature(found["signature"])
    assert {"examples": str(number), "unlabelled": told, "images": "3", "lang": "en"}.items() <= keys.items()
    assert "unusable" not in keys
    ranks = QueryRanks.load(tmp_path / "scores" / "en.test.ranks.npz")
    second = int(np.sum(np.array(TABLE["xvnli"]["logits"][1]) > TABLE["xvnli"]["logits"][1][2]))
    assert ranks.text_ranks.tolist()[:3] == [0, second, 0] and second > 0
    assert all(rank > 2 for rank in ranks.text_ranks[3:]) and ranks.text_to_image.tolist() == [0, 1, 2, 0][:number]
    assert ranks.image_ranks.tolist() == [0, second, 0]
    rows = list(csv.DictReader((tmp_path / "scores" / "en.test.said.csv").open()))
    assert [(row["right"], row["said"], row["correct"]) for row in rows] == [
        ("entailment", "entailment", "1"),
        ("neutral", "entailment", "0"),
        ("contradiction", "contradiction", "1"),
        ("-", "entailment", "0"),
    ][:number]
    assert (tmp_path / "scores" / "en.test.confusion.png").stat().st_size > 1000
    assert sorted(model.tokenizer.opened) == ["0-0.jpg", "1-0.jpg", "2-0.jpg"]  # each once


def test_statements_about_two_images(encoder, written):
    said = np.argmax(TABLE["nlvr"]["logits"], axis=1)
    rows = [(str(row), [f"{row}-0.jpg", f"{row}-1.jpg"], str(bool(label))) for row, label in enumerate(said)]
    options = written("nlvr", rows)
    assert evaluate("nlvr", encoder("nlvr"), options)["en"]["accuracy"] == 100.0
    rows[0] = (*rows[0][:2], str(not said[0]))
    written("nlvr", rows)
    expected = 100 * (len(said) - 1) / len(said)
    assert evaluate("nlvr", encoder("nlvr"), options)["en"]["accuracy"] == pytest.approx(expected)


def test_labels_have_the_order_that_the_model_was_trained_with(encoder, written):
    options = written("xvnli", XVNLI[:3])
    model = encoder("xvnli", ["neutral", "contradiction", "entailment"])  # of logits [1, 1, 0]
    assert evaluate("nli", model, options)["en"]["accuracy"] == 0.0
    assert evaluate("nli", model, {**options, "classes": ",".join(CLASSES)})["en"]["accuracy"] == pytest.approx(200 / 3)
    with pytest.raises(UserError, match="trained on the labels yes,no: .* has contradiction, too"):
        evaluate("nli", encoder("xvnli", ["yes", "no"]), options)


def test_scores_do_not_depend_on_batches_or_memory(encoder):
    model = encoder("xvnli")
    shown = labelled_examples.Shown(None, None)
    texts, names = ["2", "0", "1"], [["2-0.jpg"], ["0-0.jpg"], ["1-0.jpg"]]
    for memory, batch_size in ((0, 2), (100, 1), (100, 64)):
        images = EncodedImages(model, lambda name: shown(name, None, None), memory)
        scores = label_scores(model, images, texts, names, batch_size=batch_size)
        expected = np.array(TABLE["xvnli"]["logits"])[[2, 0, 1]]
        np.testing.assert_allclose(scores, expected, atol=1e-5)


def asked(number, right):
    return [(str(row), f"{row}-0", {ANSWERS[right[row]]: 1.0}) for row in range(number)]


def test_answers_of_the_published_network(encoder, written, tmp_path):
    published = TABLE["vqa"]["topk_ids"]
    (tmp_path / "answers.json").write_text(json.dumps({answer: 0 for answer in ANSWERS}))
    unlisted = ("0", "0-0", {"another": 1.0})
    options = written("gqa", [*asked(3, [row[0] for row in published[:2]] + [published[2][3]]), unlisted])
    options.update(answers=str(tmp_path / "answers.json"), rank_k=5, first_piece="reference")
    with scores_folder(tmp_path / "scores", "vqa", "sha", {}) as results:
        found = evaluate("vqa", encoder("vqa"), options, results)["en"]
    assert found["accuracy"] == 50.0
    keys = parse_signature(found["signature"])
    assert {"answers": "14", "rank": "5", "first": "reference", "unlisted": "1"}.items() <= keys.items()
    ranks = QueryRanks.load(tmp_path / "scores" / "en.test.ranks.npz").text_ranks
    assert ranks.tolist()[:3] == [0, 0, 3] and ranks[3] > 14
    once = evaluate("vqa", encoder("vqa", ANSWERS), {**options, "answers": "", "first_piece": "once", "rank_k": 99})[
        "en"
    ]
    assert "first" not in parse_signature(once["signature"]) and parse_signature(once["signature"])["rank"] == "14"
    with pytest.raises(UserError, match="none of its answers is among the 14 of .*: is that a model of questions"):
        evaluate("vqa", encoder("vqa"), {**options, **written("gqa", [unlisted])})


def test_answers_that_are_given_win_over_those_of_training_and_are_not_cleaned(encoder, written, tmp_path):
    """A question without an answer is not one whose answer is not listed."""
    best = TABLE["vqa"]["topk_ids"][0][0]
    (tmp_path / "answers.json").write_text(json.dumps(ANSWERS))
    options = {**written("gqa", [*asked(1, [best]), ("1", "1-0", {})]), "answers": str(tmp_path / "answers.json")}
    model = encoder("vqa", ANSWERS[::-1][:3])
    cut, model.tokenizer.encode_batch = model.tokenizer.encode_batch, None
    model.tokenizer.prepared = lambda: SimpleNamespace(bos=0, eos=2, pad=1, encode_batch=cut)
    found = evaluate("vqa", model, {**options, "rank_k": 5, "first_piece": "reference"})["en"]
    keys = parse_signature(found["signature"])
    assert found["accuracy"] == 50.0 and keys["answers"] == "14" and "unlisted" not in keys
    assert keys["unlabelled"] == "1-wrong"


def test_a_classifier_of_answers(encoder, written):
    """Classes of the label head are the answers."""
    choices = ["no", "yes", "red"]
    options = written("gqa", [(str(row), f"{row}-0", {"yes": 1.0}) for row in range(3)])
    found = evaluate("vqa", encoder("xvnli", choices), options)["en"]
    assert found["accuracy"] == pytest.approx(200 / 3) and "rank" not in parse_signature(found["signature"])
    with pytest.raises(UserError, match="cclm.pt has 3 answers, not 2"):
        evaluate("vqa", encoder("xvnli", choices[:2]), options)
    with pytest.raises(UserError, match="does not say which answers there are: give --answers"):
        evaluate("vqa", encoder("xvnli"), options)


def test_an_answer_is_right_letter_by_letter():
    """The published accuracy of a list of two questions of which one is right is 0.5."""
    place = {"yes": 0, "a man": 1, "man": 2}
    questions = [SimpleNamespace(answer="man"), SimpleNamespace(answer="yes"), SimpleNamespace(answer="cat")]
    ranks = answer_ranks(np.array([[1, 2], [0, 1], [2, 0]]), questions, place)
    assert np.mean(ranks[:2] == 0) == TABLE.get("vqa_acc_list_format", 0.5)
    assert ranks.tolist() == [1, 0, labelled_examples.NEVER]


def test_translations_are_read_as_english_and_say_so(encoder, written):
    written("xvnli", XVNLI[:3], "sw")
    model, options = encoder("xvnli"), written("xvnli", XVNLI[:3], "ar")
    found = evaluate("nli", model, {**options, "lang": ["ar", "sw"], "gmt": True})
    assert model.tokenizer.langs == ["en", "en"]
    assert [parse_signature(found[lang]["signature"])["text"] for lang in found] == ["mt-en", "mt-en"]
    assert [parse_signature(found[lang]["signature"])["lang"] for lang in found] == ["ar", "sw"]


def test_texts_are_cut_to_the_words_that_are_asked_for(encoder, written):
    model, options = encoder("xvnli"), written("xvnli", XVNLI[:3], "ar")
    cut, asked = [], {**options, "lang": ["ar"]}
    model.tokenizer.of_words = lambda words: cut.append(words) or model.tokenizer
    evaluate("nli", model, asked)
    assert not cut
    for words in (0, 7):
        evaluate("nli", model, {**asked, "max_words": words})
    assert cut == [0, 7]


def test_the_average_leaves_english_out():
    evaluator = EVALUATORS["nli"](EVALUATORS["nli"].Options(examples="{lang}", lang=["en", "de"]))
    assert evaluator.averaged(["en", "de", "fr"]) == ["de", "fr"] and evaluator.averaged(["en"]) == ["en"]


def test_unusable_examples_are_counted_and_unreadable_pictures_left_out(encoder, written, tmp_path):
    rows = [
        *XVNLI[:3],
        ("", "0-0", "neutral"),
        ("1", "1-0", "maybe"),
        ("1", "bad-0", "neutral"),
        ("1", "9-0", "neutral"),
    ]
    options = written("xvnli", rows)
    (tmp_path / "9-0.jpg").unlink()
    with pytest.raises(DataError, match="is no picture"):
        evaluate("nli", encoder("xvnli"), options)
    found = evaluate("nli", encoder("xvnli"), {**options, "bad_image": "skip"})["en"]
    assert found["left_out"] == {"images": ["bad-0.jpg"], "texts": 1} and found["accuracy"] == pytest.approx(200 / 3)
    assert {"examples": "3", "unusable": "3"}.items() <= parse_signature(found["signature"]).items()


def test_a_statement_goes_with_one_of_its_pictures(encoder, written):
    """And other second pictures are other data."""
    first, second = "0-0.jpg", "0-1.jpg"
    pairs = [[first, second], [first, "bad-1.jpg"], ["bad-0.jpg", second]]
    options = {**written("nlvr", [("0", pair, True) for pair in pairs]), "bad_image": "skip"}
    found = evaluate("nlvr", encoder("nlvr"), options)["en"]
    assert found["left_out"] == {"images": ["bad-1.jpg", "bad-0.jpg"], "texts": 2}
    assert parse_signature(found["signature"])["examples"] == "1"
    signatures = []
    for other in (second, "1-1.jpg"):
        own = written("nlvr", [("0", [first, other], True)])
        signatures.append(parse_signature(evaluate("nlvr", encoder("nlvr"), own)["en"]["signature"]))
    assert signatures[0]["data"] != signatures[1]["data"]


@pytest.mark.parametrize("evaluator, kind, changed, message", [
    ("nli", "vqa", {}, "this model has no head 'labels': --task image_text_classification trains one"),
    ("nli", "nlvr", {}, "this model reads a text beside 2 images, these examples have 1"),
    ("vqa", "xvnli", {}, "holds labels, no answers: mlvl-evaluate nli scores it"),
    ("nlvr", "nlvr", {}, "1 images a text, not 2: mlvl-evaluate nli scores it"),
    ("nli", "xvnli", {"examples": "a.json", "lang": ["en", "de"]}, "a.json needs {lang} where the language stands"),
    ("nli", "xvnli", {"classes": "yes"}, "--classes yes: give at least two labels"),
    ("nli", "xvnli", {"classes": "contradiction,entailment,neutral,other"}, "has 3 labels, not 4"),
])  # fmt: skip
def test_what_does_not_fit_is_one_line(encoder, written, evaluator, kind, changed, message):
    with pytest.raises(UserError) as raised:
        evaluate(evaluator, encoder(kind), {**written("xvnli", XVNLI), **changed})
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_scores_that_are_no_numbers_end_it(encoder, written, monkeypatch):
    model = encoder("xvnli")
    monkeypatch.setattr(model.network.cls_head, "forward", lambda states: states[:, :3] * torch.nan)
    with pytest.raises(UserError, match="some scores are not finite"):
        evaluate("nli", model, written("xvnli", XVNLI))
