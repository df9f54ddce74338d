"""What evaluating a step leaves in the run's folder: a score for each language, and the ranks behind it before it."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from mlvl_fairseq.continual import evaluation
from mlvl_fairseq.evaluation.evaluators.retrieval import rank_retrieval
from mlvl_fairseq.evaluation.metrics.query_ranks import QueryRanks
from mlvl_fairseq.evaluation.metrics.retrieval import METRICS, recalls, retrieval_scores
from mlvl_fairseq.runs.folder import StepFolder

ROWS = np.array([[0], [3], [3], [1], [4]])  # images of the captions; image 2 has none


@pytest.fixture
def encoder(monkeypatch):
    """Captions are numbers; their features are drawn from them."""

    def encode_texts(captions, lang=None):
        return np.stack([np.random.default_rng(int(caption)).standard_normal(8) for caption in captions])

    encoder = SimpleNamespace(
        encode_texts=encode_texts,
        max_length=77,
        tokenizer=SimpleNamespace(name="clip-bpe"),
        text_fingerprint=lambda captions, lang: f"{lang} {captions}",
    )
    monkeypatch.setattr(evaluation.Encoder, "load", lambda path, device: encoder)
    monkeypatch.setattr(
        evaluation, "read_feature_manifest", lambda stem: SimpleNamespace(pictures=None, transform=None)
    )
    return encoder


@pytest.fixture
def corpus():
    features = np.random.default_rng(99).standard_normal((5, 8)).astype(np.float32)
    return SimpleNamespace(
        features=lambda split, kind: features,
        feature_stem=lambda split, kind: f"{split}.{kind}",
        usable=lambda split, lang: np.arange(len(ROWS)),
        images=lambda split: list("abcde"),
        rows=lambda split, lang: ROWS,
        captions=lambda split, lang: ["1", "2", "3", "4", "5"] if lang == "en" else ["6", "7", "8", "9", "10"],
    )


@pytest.fixture
def sequence(tmp_path):
    return SimpleNamespace(
        settings=SimpleNamespace(eval_split="test", init_from=None),
        gpus=0,
        steps=[SimpleNamespace(follows=None), SimpleNamespace(follows=0)],
        folder_of=lambda step: StepFolder(tmp_path / ("00-en", "01-de")[step]),
        missing_scores=lambda step: ["en", "de"],
        score_path=lambda step, lang: tmp_path / "scores" / ("00-en", "01-de")[step] / f"{lang}.test.json",
    )


@pytest.fixture(autouse=True)
def folders(tmp_path):
    for name in ("00-en", "01-de"):
        (tmp_path / name).mkdir()


def test_scores_and_ranks(sequence, corpus, encoder):
    evaluation.evaluate_step(sequence, corpus, 1)
    for lang in ("en", "de"):
        path = sequence.score_path(1, lang)
        scores = json.loads(path.read_text())
        captions, features = corpus.captions("test", lang), corpus.features("test", "image")
        assert scores == rank_retrieval(encoder, features, list("abcde"), captions, ROWS[:, 0], lang, "test")[0]
        text = encoder.encode_texts(captions)
        expected = retrieval_scores(features[[0, 1, 3, 4]], text, np.array([0, 2, 2, 1, 3]))
        assert {metric: scores[metric] for metric in METRICS} == expected
        ranks = QueryRanks.load(path.with_name(f"{lang}.test.ranks.npz"))
        assert recalls(ranks.image_ranks, ranks.text_ranks) == expected
        assert ranks.images.tolist() == [0, 1, 3, 4] and ranks.text_to_image.tolist() == [0, 2, 2, 1, 3]


@pytest.mark.parametrize("gpus, device", [(0, "cpu"), (2, "cuda")])
def test_it_scores_the_best_checkpoint_on_the_teacher_s_features_of_its_split(
    sequence, corpus, encoder, monkeypatch, tmp_path, gpus, device
):
    loaded, asked, features = [], [], corpus.features("test", "image")
    monkeypatch.setattr(evaluation.Encoder, "load", lambda path, device: loaded.append((path, str(device))) or encoder)
    corpus.features = lambda split, kind: asked.append((split, kind)) or features
    sequence.gpus = gpus
    evaluation.evaluate_step(sequence, corpus, 1)
    assert loaded == [(tmp_path / "01-de" / "checkpoint_best.pt", device)] and set(asked) == {("test", "image")}


def test_a_score_implies_its_ranks(sequence, corpus, encoder, monkeypatch):
    def full_disk(path, value):
        raise OSError("no space left")

    monkeypatch.setattr(evaluation, "write_json", full_disk)
    with pytest.raises(OSError, match="no space left"):
        evaluation.evaluate_step(sequence, corpus, 1)
    assert [path.name for path in sequence.score_path(1, "en").parent.iterdir()] == ["en.test.ranks.npz"]


def test_pictures_that_were_cut_otherwise_are_in_the_signature(sequence, corpus, encoder, monkeypatch):
    evaluation.evaluate_step(sequence, corpus, 1)
    path = sequence.score_path(1, "de")
    assert "transform" not in json.loads(path.read_text())["signature"]
    cut = SimpleNamespace(pictures=None, transform="mclip@224")
    monkeypatch.setattr(evaluation, "read_feature_manifest", lambda stem: cut if stem == "test.image" else None)
    evaluation.evaluate_step(sequence, corpus, 1)
    assert "|ties:index|transform:mclip@224|version:" in json.loads(path.read_text())["signature"]


def test_what_has_not_changed_is_not_encoded_again(sequence, corpus, encoder, monkeypatch):
    """German has: by a weight. Scores and ranks of English are byte by byte those of encoding again."""
    evaluation.evaluate_step(sequence, corpus, 0)
    encoded = []
    encode, changed = encoder.encode_texts, {"de": "another weight"}
    monkeypatch.setattr(encoder, "text_fingerprint", lambda captions, lang: changed.get(lang, f"{lang} {captions}"))
    monkeypatch.setattr(encoder, "encode_texts", lambda captions, lang: encoded.append(lang) or encode(captions))
    evaluation.evaluate_step(sequence, corpus, 1)
    assert encoded == ["de"]
    files = sorted(sequence.score_path(1, "en").parent.iterdir())
    taken = {path: path.read_bytes() for path in files}
    for path in [*files, sequence.folder_of(0).evaluated]:
        path.unlink()
    evaluation.evaluate_step(sequence, corpus, 1)
    assert encoded == ["de", "en", "de"] and {path: path.read_bytes() for path in files} == taken


@pytest.mark.parametrize("what", ["captions", "features", "images", "rows", "transform", "score"])
def test_whatever_has_changed_counts(sequence, corpus, encoder, monkeypatch, what):
    evaluation.evaluate_step(sequence, corpus, 0)
    encoded, encode = [], encoder.encode_texts
    monkeypatch.setattr(encoder, "encode_texts", lambda captions, lang: encoded.append(lang) or encode(captions))
    if what == "captions":
        corpus.captions = lambda split, lang: ["1", "2", "3", "4", "11"]
    if what == "features":
        features = corpus.features("test", "image").copy()
        features[4, 7] += 1
        corpus.features = lambda split, kind: features
    if what == "images":
        corpus.images = lambda split: list("abcdf")
    if what == "rows":
        corpus.rows = lambda split, lang: ROWS[[0, 1, 2, 4, 3]]
    if what == "transform":
        cut = SimpleNamespace(pictures=None, transform="mclip@224")
        monkeypatch.setattr(evaluation, "read_feature_manifest", lambda stem: cut)
    if what == "score":
        sequence.score_path(0, "en").unlink()
        sequence.score_path(0, "de").unlink()
    evaluation.evaluate_step(sequence, corpus, 1)
    assert encoded == ["en", "de"]
