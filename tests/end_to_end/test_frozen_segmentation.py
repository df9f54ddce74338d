"""Captions of a learned language keep the tokens it was learned with: in a run's models, scores and signatures."""

import json

import torch

from mlvl_fairseq.data.corpus import Corpus
from mlvl_fairseq.data.text import ClipTokenizer
from mlvl_fairseq.inference import Encoder


def test_a_run_with_frozen_segmentation(learn, corpus, run, succeed, world, read_json, tmp_path):
    folder = learn(tmp_path / "run", "er", "en,de,ru", "--segmentation", "frozen", "--max-update", 2)
    encoder, captions = Encoder.load(folder / "02-ru" / "checkpoint_best.pt"), Corpus(corpus).captions("test", "de")
    cut = {name: ClipTokenizer.load(corpus / "bin" / name).tokenize(captions, 77) for name in ("en+de", "en+de+ru")}
    assert encoder.tokenize(captions, "de") == cut["en+de"]
    assert encoder.tokenize(captions, "ru") == encoder.tokenize(captions) == cut["en+de+ru"]
    for lang in ("en", "de", "ru"):
        assert "|tok:clip-bpe-frozen|" in read_json(folder / "scores" / "02-ru" / f"{lang}.test.json")["signature"]
    evaluate = ["mlvl-evaluate", "--checkpoint", folder / "02-ru" / "checkpoint_best.pt", "--lang", "de"]
    features = ["--image-features", corpus / "features/test.image.npy", "--image-list", corpus / "images/test.txt"]
    scores = json.loads(succeed(*evaluate, "--captions", world / "test.de.json", *features))
    assert scores["r_mean"] == read_json(folder / "scores" / "02-ru" / "de.test.json")["r_mean"]
    printed = succeed("mlvl-analyse", "segmentation", folder, "--split", "test", "--output", tmp_path / "drift")
    assert "run: cut differently, %" in printed and "captions after ru" in printed

    state = torch.load(folder / "02-ru" / "checkpoint_best.pt", weights_only=False)
    assert state["task_state"]["segmentation"].keys() == {"en", "de", "ru"}
    for wrong, message in (({"de": 3}, "segmentation"), ({"de": (10**9, 1)}, "'de' was learned with more")):
        torch.save({**state, "task_state": {**state["task_state"], "segmentation": wrong}}, tmp_path / "wrong.pt")
        evaluate[2] = tmp_path / "wrong.pt"
        assert message in run(*evaluate, "--captions", world / "test.de.json", *features).error


def test_a_vocabulary_that_does_not_grow_cannot_be_frozen(cll, run, tmp_path):
    options = ["--segmentation", "frozen", "--oracle-languages", "en", "--save-dir", tmp_path]
    error = run("fairseq-train", *cll("en"), *options).error
    assert "the oracle vocabulary does not grow" in error or "no vocabulary in" in error
