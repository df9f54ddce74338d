"""Evaluators: a new one is one class, found by name, with options, scores, signature and folder like the others."""

import hashlib
import json
import os
from dataclasses import dataclass, fields
from types import SimpleNamespace

import numpy as np
import pytest

from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.evaluation import evaluators
from mlvl_fairseq.evaluation.evaluators import EVALUATORS, Evaluator, Result, base, option, register_evaluator
from mlvl_fairseq.evaluation.evaluators.retrieval import Retrieval, RetrievalOptions, retrieval_signature
from mlvl_fairseq.evaluation.metrics.query_ranks import QueryRanks
from mlvl_fairseq.evaluation.signature import Signature, data_fingerprint, parse_signature
from mlvl_fairseq.inference.encoder import Encoder
from mlvl_fairseq.runs.result_folder import scores_folder
from mlvl_fairseq.version import __version__

FEATURES = {"Hund": [1.0, 0.0], "Katze": [0.8, 0.6], "Maus": [0.0, 1.0]}


@pytest.fixture
def encoder(monkeypatch):
    """Every checkpoint is this model: it knows three words; features of images are taken as they are."""

    def encode_texts(captions, lang=None):
        model.calls.append(("texts", lang))
        return np.array([FEATURES[caption] for caption in captions])

    def encode_features(features):
        model.calls.append(("images", len(features)))
        return np.asarray(features)

    model = SimpleNamespace(
        encode_texts=encode_texts,
        encode_features=encode_features,
        max_length=77,
        tokenizer=SimpleNamespace(name="clip-bpe"),
        fingerprint="sha",
        calls=[],
    )
    monkeypatch.setattr(Encoder, "load", lambda path, **options: model)
    return model


@pytest.fixture
def newcomer(monkeypatch):
    """What a new file of the folder would hold: guesses the length of words."""
    monkeypatch.setattr(base, "EVALUATORS", EVALUATORS)

    @dataclass(kw_only=True)
    class LengthOptions:
        words: str = option("words in a row", identity=None, metavar="WORDS")
        lang: list = option("languages", "en", languages=True)
        split: str = option("name of the split", "test")
        most: int = option("longest word", 9, least=1)

    @register_evaluator("length")
    class Length(Evaluator):
        """How long the model thinks that words are."""

        Options = LengthOptions
        metrics = ("accuracy", "error")
        keys = {"most": "longest word that counts"}

        def read(self):
            return {lang: self.options.words.split() for lang in self.options.lang}

        def fingerprint(self, data):
            return "+".join(data)

        def source(self, data):
            return "--words"

        def score(self, encoder, lang, data, images):
            assert images is None, "it asked for none"
            encoder.calls.append(("length", lang))
            own = [word for word in data if len(word) <= self.options.most]
            signature = Signature(
                **{"data": self.fingerprint(data), "split": self.options.split, "lang": lang, "precision": "fp32"},
                images=None,
                texts=len(data),
                tok=encoder.tokenizer.name,
                maxlen=None,
                own={"most": self.options.most},
            )
            return Result({"accuracy": 100.0 * len(own) / len(data), "error": 0.5}, str(signature))

    yield Length
    del EVALUATORS["length"]


def command(run_here, *arguments):
    with pytest.raises(SystemExit) as exit:
        run_here("mlvl-evaluate", *arguments)
    return exit.value.code


def test_a_new_evaluator_is_found_with_its_options(run_here, newcomer, encoder, capsys, tmp_path):
    assert command(run_here, "--help") == 0
    text = capsys.readouterr().out
    for name, evaluator in EVALUATORS.items():
        assert name in text and evaluator.__doc__.strip().splitlines()[0] in text
    assert command(run_here, "length", "--help") == 0
    text = capsys.readouterr().out
    assert "longest word (default: 9)" in text and "--checkpoint" in text and "most: longest word that counts" in text
    options = ["--checkpoint", "x.pt", "--words", "a bb cccc", "--lang", "de,en", "--most", "3"]
    folder = ["--output-dir", tmp_path / "scores"]
    assert command(run_here, "length", *options, *folder, "--format", "json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["languages"]["de"] == {
        "accuracy": pytest.approx(200 / 3),
        "error": 0.5,
        "signature": "data:a+bb+cccc|split:test|lang:de|texts:3|tok:clip-bpe|precision:fp32|most:3|version:0.1.0",
    }
    assert result["average"]["signature"].startswith("data:a+bb+cccc|split:test|lang:*|")
    assert encoder.calls == [("length", "de"), ("length", "en")]
    assert {path.name for path in (tmp_path / "scores").glob("[a-z]*")} == {
        *("settings.json", "de.test.json", "en.test.json")
    }
    assert command(run_here, "length", *options, *folder) == 0  # a table; nothing is computed again
    assert "| de      |     66.7 |   0.5 |" in capsys.readouterr().out and len(encoder.calls) == 2
    assert command(run_here, "length", *options[:3], "other words", *options[4:], *folder) == 2
    assert "holds the scores of other data than --words" in capsys.readouterr().err
    with pytest.raises(SystemExit) as exit:
        run_here("mlvl-report", tmp_path / "scores", "--output", tmp_path / "out", "--format", "md")
    assert exit.value.code == 0
    assert "| scores | 66.7 | 66.7 |" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["lengths", "--checkpoint", "x"], "no evaluator 'lengths'; there are: "),
        (["length", "--checkpoint", "x", "--words", "a", "--most", "0"], "0 is not a whole number of at least 1"),
        (["length", "--words", "a"], "the following arguments are required: --checkpoint"),
        (["length", "--checkpoint", "x", "--words", "a", "--lang", "de,de"], "de occurs more than once"),
        (["--checkpoint", "x", "--words", "a"], "required: --captions, --lang"),
    ],
)
def test_wrong_commands(run_here, newcomer, encoder, capsys, arguments, message):
    assert command(run_here, *arguments) == 2
    assert message in capsys.readouterr().err and not encoder.calls


def test_an_unknown_evaluator_is_told_all_names(run_here, newcomer, capsys):
    assert "length" in EVALUATORS
    assert command(run_here, "lengths") == 2
    assert capsys.readouterr().err.rstrip().endswith(f"there are: {', '.join(sorted(EVALUATORS))}")


def test_scores_of_another_value_of_an_option_are_not_taken_for_these(run_here, newcomer, encoder, capsys, tmp_path):
    """Although the evaluator says nothing of what its results share."""
    words = ["length", "--checkpoint", "x.pt", "--words", "a bb cccc", "--output-dir", tmp_path]
    assert command(run_here, *words, "--most", "3") == 0
    assert command(run_here, *words, "--most", "1") == 2
    assert "holds results with other settings (most is 3 there, 1 here)" in capsys.readouterr().err
    assert command(run_here, *words, "--most", "3", "--lang", "en,de") == 0  # one more language of the same
    assert encoder.calls == [("length", "en"), ("length", "de")]


def test_a_kind_of_retrieval_shares_its_options_and_adds_its_keys(retrieval, encoder, tmp_path):
    @dataclass(kw_only=True)
    class DepthOptions(RetrievalOptions):
        depth: int = option("ranks that count", 5)

    class Deep(Retrieval):
        Options = DepthOptions

        def own_keys(self):
            return {"depth": self.options.depth}

    deep = Deep(DepthOptions(**vars(retrieval().options), depth=7))
    assert deep.settings() == {**retrieval().settings(), "depth": 7}
    (scores,) = base.evaluate(deep, encoder, deep.read()).values()
    assert "|ties:index|depth:7|version:" in scores["signature"]


def test_settings_of_retrieval_are_those_of_all_versions(retrieval, tmp_path):
    """As version 0.1.0 wrote them: what the images are, not where; nothing of what changes no score."""
    options = {"split": "test", "n_fold": 1, "recall": "standard"}
    digests = {
        name: hashlib.sha256((tmp_path / file).read_bytes()).hexdigest()
        for name, file in (("image_features", "images.npy"), ("image_list", "images.txt"))
    }
    assert retrieval(batch_size=3).settings() == {**options, **digests}
    folder = {"image_root": "pictures", "image_features": None, "image_list": None, "lang": ["de", "fr"]}
    assert retrieval(**folder).settings() == {**options, "image_root": os.path.abspath("pictures")}


def test_a_name_cannot_be_taken_twice(newcomer):
    with pytest.raises(ValueError, match="evaluator 'length' is registered already"):
        register_evaluator("length")(newcomer)


@pytest.mark.parametrize("name", sorted(EVALUATORS))
def test_every_option_and_key_is_explained(name):
    evaluator = EVALUATORS[name]
    assert evaluator.name == name and evaluator.metrics and len(evaluator.__doc__) > 20
    assert all(len(entry.metadata["help"]) > 10 for entry in fields(evaluator.Options))
    assert all(len(about) > 10 for about in evaluator.keys.values())
    assert "split" in {entry.name for entry in fields(evaluator.Options)}


@pytest.fixture
def retrieval(tmp_path):
    """``retrieval(lang=["de"], ...)``: an evaluator of three captions of two images, whose features are given."""
    rows = [{"image": "a.jpg", "caption": "Hund"}, {"image": "b.jpg", "caption": ["Katze", "Maus"]}]
    for lang in ("de", "fr"):
        (tmp_path / f"{lang}.json").write_text(json.dumps(rows))
    np.save(tmp_path / "images.npy", np.array([[0.0, 1.0], [9.0, 9.0], [1.0, 0.1]], np.float32))
    (tmp_path / "images.txt").write_text("b.jpg\nunused.jpg\na.jpg\n")

    def build(**options):
        files = {"image_features": str(tmp_path / "images.npy"), "image_list": str(tmp_path / "images.txt")}
        captions = {"captions": str(tmp_path / "{lang}.json"), "lang": ["de"]}
        return Retrieval(RetrievalOptions(**{**files, **captions, **options}))

    return build


def test_retrieval_signature_is_that_of_all_versions(retrieval, encoder):
    """As version 0.1.0 wrote it before there were other evaluators."""
    evaluator = retrieval()
    scores = base.evaluate(evaluator, encoder, evaluator.read())["de"]
    assert scores["signature"] == (
        "data:5fedf5c944e8|split:test|lang:de|images:2|texts:3|tok:clip-bpe|maxlen:77|precision:fp32|folds:1|captions:any"
        "|ties:index|version:0.1.0"
    )
    assert scores["img_r1"] == pytest.approx(200 / 3) and scores["txt_r1"] == 100


def test_images_are_encoded_once_for_all_languages(retrieval, encoder):
    evaluator = retrieval(lang=["de", "fr"])
    base.evaluate(evaluator, encoder, evaluator.read())
    assert encoder.calls == [("images", 2), ("texts", "de"), ("texts", "fr")]


def test_what_is_finished_is_kept_with_its_ranks(retrieval, encoder, tmp_path):
    """A language that is added has its own images encoded only."""
    rows = [{"image": "a.jpg", "caption": "Maus"}]
    (tmp_path / "fr.json").write_text(json.dumps(rows))
    for langs in (["de"], ["de", "fr"]):
        evaluator = retrieval(lang=langs)
        with scores_folder(tmp_path / "scores", "retrieval", "sha", evaluator.settings()) as results:
            scores = base.evaluate(evaluator, encoder, evaluator.read(), results)
    assert list(scores) == ["de", "fr"]
    assert encoder.calls == [("images", 2), ("texts", "de"), ("images", 1), ("texts", "fr")]
    for lang in langs:
        path = tmp_path / "scores" / f"{lang}.test.json"
        ranks = QueryRanks.load(path.with_name(f"{lang}.test.ranks.npz"))
        assert json.loads(path.read_text()) == scores[lang]
        assert scores[lang]["img_r1"] == pytest.approx(100 * np.mean(ranks.text_ranks < 1))


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("img_r1", "80.0", "field 'img_r1': expected float, found '80.0'; delete it"),
        ("img_r1", None, "field 'img_r1': expected float, found null; delete it"),
        ("signature", "80.0", "not a signature: '80.0' in '80.0' is no key:value pair; evaluate again"),
        ("signature", 1, "field 'signature': expected str, found 1; delete it"),
        ("left_out", [], "field 'left_out': expected object | null, found a list of 0; delete it"),
        ("left_out", {"images": 1}, "field 'left_out.images': expected array, found 1; delete it"),
    ],
)
def test_damaged_scores_are_named(retrieval, encoder, tmp_path, field, value, message):
    evaluator = retrieval(lang=["de"])
    for damage in (False, True):
        with scores_folder(tmp_path / "scores", "retrieval", "sha", evaluator.settings()) as results:
            path = results.path("de.test")
            if damage:
                path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
                with pytest.raises(DataError) as raised:
                    base.evaluate(evaluator, encoder, evaluator.read(), results)
                assert str(raised.value).startswith(f"{path}") and message in str(raised.value)
            else:
                base.evaluate(evaluator, encoder, evaluator.read(), results)


def test_ranks_are_of_images_by_name(retrieval, encoder, tmp_path):
    """The same images in another order: the same names for them."""
    data = retrieval().read()["de"]
    result = retrieval().score(encoder, "de", data, base.ImageFeatures(data.images, np.eye(2)))
    rows = [{"image": "b.jpg", "caption": "Maus"}, {"image": "a.jpg", "caption": "Hund"}]
    (tmp_path / "turned.json").write_text(json.dumps(rows))
    turned = retrieval(captions=str(tmp_path / "turned.json"))
    data = turned.read()["de"]
    other = turned.score(encoder, "de", data, base.ImageFeatures(["a.jpg", "b.jpg"], np.eye(2)))
    assert isinstance(result.ranks, QueryRanks) and len(set(result.ranks.images.tolist())) == 2
    assert result.ranks.images.tolist() == other.ranks.images.tolist()[::-1] and result.ranks.images.dtype == np.int32
    assert result.ranks.text_to_image.tolist() == [0, 1, 1] and result.ranks.text_ranks.tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"image_root": "images"}, "give either --image-root DIR or --image-features"),
        ({"image_list": None}, "with --image-list"),
        ({"lang": ["de", "fr"], "captions": "de.json"}, "--captions 'de.json' needs {lang} where"),
    ],
)
def test_wrong_options(retrieval, options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        retrieval(**options).read()


def test_signature_of_retrieval_says_what_the_model_saw():
    """Each value its own: none of them is what most models have."""
    model = SimpleNamespace(max_length=12, tokenizer=SimpleNamespace(name="sentencepiece"))
    data = ["a.jpg", "b.jpg"], ["Hund", "Katze", "Maus"], [0, 1, 1]
    text = retrieval_signature(model, *data, "de", "valid", 2, "deduplicated", {"eta": 0.3})
    assert parse_signature(text) == {
        "data": data_fingerprint(*data),
        "split": "valid",
        "lang": "de",
        "images": "2",
        "texts": "3",
        "tok": "sentencepiece",
        "maxlen": "12",
        "precision": "fp32",
        "folds": "2",
        "captions": "deduplicated",
        "ties": "index",
        "eta": "0.3",
        "version": __version__,
    }
    usual = parse_signature(retrieval_signature(model, *data, "de", "valid"))
    assert (usual["folds"], usual["captions"], usual["maxlen"]) == ("1", "any", "12") and "eta" not in usual


def test_a_new_file_is_a_new_evaluator(add_file):
    text = "from mlvl_fairseq.evaluation.evaluators.base import Evaluator, register_evaluator\n"
    before = set(EVALUATORS)
    add_file(evaluators, "newest", text + "@register_evaluator('newest')\nclass Newest(Evaluator):\n    'x'\n")
    try:
        assert set(EVALUATORS) == before | {"newest"} != before and EVALUATORS["newest"].name == "newest"
        with pytest.raises(ValueError, match="evaluator 'retrieval' is registered already"):
            register_evaluator("retrieval")(EVALUATORS["newest"])
    finally:
        del EVALUATORS["newest"]
