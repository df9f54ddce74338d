"""Binarized captions: what fairseq-preprocess would have written, once, and all of it."""

import json
import logging
import random
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from fairseq.data import data_utils

from mlvl_fairseq.data.corpus import binarize as binarize_module
from mlvl_fairseq.data.corpus.binarize import (
    binarize,
    count_english_tokens,
    count_tokens,
)
from mlvl_fairseq.data.corpus.build import build_corpus
from mlvl_fairseq.data.corpus.corpus import Corpus
from mlvl_fairseq.data.corpus.prepare import prepare_vocabularies
from mlvl_fairseq.data.corpus.vocabularies import GrownVocabulary, language_vocabulary
from mlvl_fairseq.data.text import BOS_TOKEN, EOS_TOKEN, ClipTokenizer, Vocabulary
from mlvl_fairseq.errors import DataError, UserError

FILES = ["dict.txt", "lengths.json", "train.bin", "train.idx", "valid.bin", "valid.idx"]


@pytest.fixture
def prepared(corpus):
    """With the vocabularies of its languages."""
    for lang in corpus.languages("train"):
        language_vocabulary(corpus, lang, train=True)
    return corpus


def add_large_vocabulary(corpus):
    """German brings 16,200 tokens: with more than 65,500, uint16 no longer does. A caption uses the last one."""
    filling = [f"filling-{i}" for i in range(16_200)]
    tokens = [BOS_TOKEN, EOS_TOKEN, "z", "wei</w>", *filling, "zwei</w>"]
    Vocabulary(tokens, [("z", "wei</w>")]).save(corpus.folder / "bpe" / "de.60")


@pytest.fixture
def by_hand(run_alone, run_here, root, user_dir):
    """Makes the train files of an order's last language with the two documented command lines."""

    def python(*command, **options):
        ended = run_alone("python", "-m", *command, env={"PYTHONPATH": str(root)}, **options)
        assert ended.returncode == 0, ended.stderr[-2000:]
        return ended.stdout

    def run(corpus, languages, destination, here):
        folder, lang = GrownVocabulary(corpus, languages).folder, languages[-1]
        with open(corpus.captions_path("train", lang), encoding="utf-8") as captions:
            encoded = python("mlvl_fairseq.cli.encode", "--vocabulary", folder, stdin=captions)
        lines = destination.with_name("train.bpe")
        lines.write_text(encoded, encoding="utf-8")
        options = ["--user-dir", user_dir, "--task", "cll_retrieval", "--only-source"]
        options += ["--srcdict", folder / "dict.txt", "--trainpref", lines, "--destdir", destination]
        if here:
            run_here("fairseq-preprocess", *options)
        else:
            python("fairseq_cli.preprocess", *options)

    return run


@pytest.mark.parametrize("size, dtype", [("small", np.uint16), ("large", np.int32)])
def test_files_are_those_of_fairseq_preprocess(by_hand, prepared, tmp_path, size, dtype):
    if size == "large":
        add_large_vocabulary(prepared)
    folder = binarize(GrownVocabulary(prepared, ["en", "de"]), "de")
    by_hand(prepared, ["en", "de"], tmp_path / "by_hand", here=size == "large")
    for name in ("train.bin", "train.idx", "dict.txt"):
        assert (folder / name).read_bytes() == (tmp_path / "by_hand" / name).read_bytes(), name
    dictionary = ClipTokenizer.load_dictionary(folder / "dict.txt")
    captions = data_utils.load_indexed_dataset(str(folder / "train"), dictionary, "mmap")
    encoder = GrownVocabulary(prepared, ["en", "de"]).tokenizer
    expected = [[*encoder.encode(text), encoder.eos] for text in prepared.captions("train", "de")]
    assert [caption.tolist() for caption in captions] == expected
    assert np.memmap(folder / "train.bin", dtype=dtype, mode="r").tolist() == sum(expected, [])
    assert (len(dictionary) > 65_500) == (max(map(max, expected)) > 65_500) == (size == "large")


def test_folder_is_complete_and_is_made_once(prepared):
    folder = binarize(GrownVocabulary(prepared, ["en", "de"]), "de")
    assert folder == GrownVocabulary(prepared, ["en", "de"]).binarized("de") == prepared.folder / "bin" / "en+de" / "de"
    assert sorted(path.name for path in folder.iterdir()) == FILES
    report = json.loads((folder / "lengths.json").read_text())
    lengths = [
        len(GrownVocabulary(prepared, ["en", "de"]).tokenizer.encode(text)) + 2
        for text in prepared.captions("valid", "de")
    ]
    assert report["valid"] == {
        "captions": len(lengths),
        "mean_length": round(sum(lengths) / len(lengths), 2),
        "longest": max(lengths),
        "truncated": 0,
        "truncated_percent": 0,
    }
    times = [path.stat().st_mtime_ns for path in folder.iterdir()]
    binarize(GrownVocabulary(prepared, ["en", "de"]), "de")
    assert [path.stat().st_mtime_ns for path in folder.iterdir()] == times


def test_languages_without_validation_captions(prepared):
    folder = binarize(GrownVocabulary(prepared, ["cs"]), "cs")
    assert sorted(path.name for path in folder.iterdir()) == FILES[:4]


def test_unknown_language(prepared):
    with pytest.raises(UserError, match="no train captions in language 'fr'"):
        binarize(GrownVocabulary(prepared, ["fr"]), "fr")
    assert not (prepared.folder / "bin" / "fr").exists()


def test_interrupted_work_is_not_taken_for_complete(prepared, monkeypatch):
    encode, calls = ClipTokenizer.encode_batch, []

    def interrupted(self, captions):
        calls.append(captions)
        if len(calls) > 1:
            raise KeyboardInterrupt  # in the second split
        return encode(self, captions)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ClipTokenizer, "encode_batch", interrupted)
        binarize(GrownVocabulary(prepared, ["en", "de"]), "de")
    folder = GrownVocabulary(prepared, ["en", "de"]).binarized("de")
    assert (folder / "train.bin").exists() and not (folder / "lengths.json").exists()
    (folder / "train.bin").write_bytes(b"other captions")
    binarize(GrownVocabulary(prepared, ["en", "de"]), "de")
    assert sorted(path.name for path in folder.iterdir()) == FILES
    eos = GrownVocabulary(prepared, ["en", "de"]).tokenizer.eos
    assert np.memmap(folder / "train.bin", dtype=np.uint16, mode="r")[-1] == eos


def test_captions_that_will_be_cut_are_reported(new_tables, tmp_path, caplog):
    long = "1" * 80  # as many tokens, and two more
    german = [(f"{i}.jpg", "ä" * 20) for i in range(39)] + [("39.jpg", long)]
    corpus = build_corpus(tmp_path / "long", new_tables(german=german), bpe_size=60)
    language_vocabulary(corpus, "de", train=True)
    with caplog.at_level(logging.WARNING):
        folder = binarize(GrownVocabulary(corpus, ["de"]), "de")
    report = json.loads((folder / "lengths.json").read_text())["train"]
    assert (report["longest"], report["truncated_percent"], report["captions"]) == (82, 2.5, 40)
    assert report["truncated"] == 1
    assert "de train: 1 of 40 captions are longer than 77 tokens (the longest: 82): models see their" in caplog.text


def test_token_counts(prepared):
    binarize(GrownVocabulary(prepared, ["en", "de"]), "de")
    encoder = GrownVocabulary(prepared, ["en", "de"]).tokenizer
    counts = count_tokens(GrownVocabulary(prepared, ["en", "de"]), "de", len(encoder))
    ids = [i for text in prepared.captions("train", "de") for i in [*encoder.encode(text), encoder.eos]]
    assert dict(Counter(ids)) == {int(i): counts[i] for i in np.flatnonzero(counts)}
    assert counts.shape == (len(encoder),) and counts[encoder.bos] == 0


def test_token_counts_of_another_vocabulary_are_refused(prepared):
    binarize(GrownVocabulary(prepared, ["en", "de"]), "de")
    with pytest.raises(DataError, match=r"train.bin: holds token \d+, the vocabulary ends at 400"):
        count_tokens(GrownVocabulary(prepared, ["en", "de"]), "de", 401)
    with pytest.raises(DataError, match="train.bin: no such file; .*run mlvl-prepare again"):
        count_tokens(GrownVocabulary(prepared, ["de"]), "de", 50_000)


def test_a_sequence_is_every_step_with_its_own_vocabulary(prepared):
    order = random.Random(1).sample(["en", "de", "cs"], 3)
    prepare_vocabularies(prepared, order)
    for step in range(1, 4):
        name = "+".join(order[:step])
        assert (prepared.folder / "bin" / name / order[step - 1] / "lengths.json").exists()
    assert len([path for path in (prepared.folder / "bin").rglob("lengths.json")]) == 3 + 1  # and English in CLIP's own


def test_english_counts_are_those_of_distinct_sentences_with_clip_s_own_vocabulary(prepared, monkeypatch):
    encoder = GrownVocabulary(prepared, []).tokenizer
    counts = count_english_tokens(prepared)
    sentences = prepared.english("train")
    assert len(set(sentences)) == len(sentences)
    expected = Counter(i for text in sentences for i in encoder.encode(text))
    assert {int(i): counts[i] for i in np.flatnonzero(counts)} == dict(expected)
    assert counts.shape == (49408,) and counts.dtype == np.int64
    monkeypatch.setattr(ClipTokenizer, "encode_batch", None)  # kept: not counted again
    assert np.array_equal(count_english_tokens(prepared), counts)


@pytest.mark.parametrize("at_once", [1, 2, 1000])
def test_english_is_counted_word_by_word_as_sentences_are_cut(prepared, monkeypatch, at_once):
    odd = [
        "",
        " ",
        "a  dog",
        "a\tdog a\u00a0dog\u3000dog",
        "don't  don't!",
        "!\x1c!",
        "cafe\u0301 \u0301e",
        "3 33 \u03a3\u039f\u03a3",
    ]
    odd += ["<|endoftext|> x<|startoftext|>", "dog\r", "\u201cdog\u201d \u201c dog"] + prepared.english("train")
    monkeypatch.setattr(binarize_module, "COUNTED", at_once)
    encoder = GrownVocabulary(prepared, []).tokenizer
    expected = np.bincount([i for text in odd for i in encoder.encode(text)], minlength=len(encoder))
    assert np.array_equal(binarize_module._count_english(prepared, odd), expected)


def test_without_english_sentences_nothing_is_counted(prepared, monkeypatch):
    monkeypatch.setattr(type(prepared), "english", lambda self, split: [])
    assert not count_english_tokens(prepared).any()


def test_sentences_of_unusable_images_alone_are_left_out():
    rows = {"de": [[0, 4], [1, 3], [1, -1], [2, 2], [2, 1]], "cs": [[0, 0], [1, 4], [1, 1]]}
    usable = {"de": [0, 3], "cs": [0, 2]}
    corpus = SimpleNamespace(
        languages=lambda split: list(rows),
        rows=lambda split, lang: np.array(rows[lang], np.int32),
        usable=lambda split, lang: np.array(usable[lang]),
    )
    assert binarize_module._unused_english(corpus) == {3}  # 4 and 1 have another usable caption
    usable.update(de=range(5), cs=range(3))
    assert binarize_module._unused_english(corpus) == set()


def test_lines_are_read_once_where_that_is_asked_for(prepared):
    corpus = Corpus(prepared.folder)
    with corpus.reading_once():
        kept = corpus.english("train"), corpus.images("train")
        assert corpus.english("train") is kept[0] and corpus.images("train") is kept[1]
        assert corpus.english("valid") != kept[0] and corpus.captions("train", "de") is not kept[0]
    assert corpus.english("train") == kept[0] and corpus.english("train") is not kept[0]
