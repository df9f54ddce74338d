"""Caption tables to a corpus folder, and what is refused."""

import json
import os

import numpy as np
import pytest

from mlvl_fairseq.data.corpus import Corpus, split_building
from mlvl_fairseq.data.corpus.build import build_corpus
from mlvl_fairseq.errors import DataError, UserError


def partners(corpus, lang):
    """(image, English sentence or None, caption) of each caption, looked up through its rows."""
    images, english = corpus.images("train"), [*corpus.english("train"), None]
    captions, rows = corpus.captions("train", lang), corpus.rows("train", lang)
    return [(images[row], english[sentence], text) for (row, sentence), text in zip(rows, captions, strict=True)]


def test_rows_lead_to_image_and_english_sentence(corpus):
    assert partners(corpus, "en") == [
        ("b.jpg", "A dog runs.", "A dog runs."),
        ("b.jpg", "A brown dog", "A brown dog"),
        ("a.jpg", "Two cats", "Two cats"),
        ("a.jpg", "A dog runs.", "A dog runs."),
        ("c.jpg", "A bird", "A bird"),
    ]
    assert partners(corpus, "de") == [  # paired by the order of an image's captions
        ("a.jpg", "Two cats", "Zwei Katzen"),
        ("b.jpg", "A dog runs.", "Ein Hund rennt."),
        ("d.jpg", None, "Ein Haus"),
        ("b.jpg", "A brown dog", "Ein brauner Hund"),
    ]
    assert partners(corpus, "cs") == [  # brought along by the triplets
        ("b.jpg", "A dog runs.", "Pes běží."),
        ("a.jpg", "Three cats", "Tři kočky"),
        ("e.jpg", "Three cats", "Tři kočky"),
        ("a.jpg", "A bird", "Pták"),
    ]


def test_lists_are_numbered_by_first_appearance_and_hold_each_text_once(corpus):
    assert corpus.images("train") == ["b.jpg", "a.jpg", "c.jpg", "d.jpg", "e.jpg"]
    assert corpus.english("train") == ["A dog runs.", "A brown dog", "Two cats", "A bird", "Three cats"]
    assert corpus.images("valid") == ["b.jpg", "a.jpg", "c.jpg", "d.jpg"]
    assert corpus.rows("train", "de").dtype == np.int32


def test_manifest_tells_counts_and_problems(corpus):
    assert corpus.manifest["splits"]["train"]["captions"] == {"en": 5, "de": 4, "cs": 4}
    assert corpus.manifest["splits"]["train"]["problems"]["de"] == {"unpaired caption": 1}
    assert corpus.manifest["splits"]["train"]["problems"]["cs"] == {}
    assert (corpus.source_lang, corpus.bpe_size, corpus.languages("valid")) == ("en", 60, ["en", "de"])


def test_triplets_need_no_english_file(new_tables, tmp_path):
    corpus = build_corpus(tmp_path / "corpus", {"train": {"cs": new_tables()["train"]["cs"]}})
    assert corpus.english("train") == ["A dog runs.", "Three cats", "A bird"]
    assert corpus.rows("train", "cs").tolist() == [[0, 0], [1, 1], [2, 1], [1, 2]]


def test_white_space_within_captions_cannot_break_lines(new_tables, tmp_path):
    corpus = build_corpus(tmp_path / "corpus", new_tables(german=[("a.jpg", "Zwei\n\n Katzen\t\u00a0 hier")]))
    assert corpus.captions("train", "de") == ["Zwei Katzen hier"]


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_same_captions_may_be_prepared_again(corpus, new_tables, tmp_path):
    before = contents(corpus.folder)
    again = build_corpus(corpus.folder, new_tables(), bpe_size=60)
    assert contents(corpus.folder) == before and again.fingerprint == corpus.fingerprint


@pytest.mark.parametrize("german", [
    [("a.jpg", "Zwei Katzen"), ("b.jpg", "Ein Hund rennt.")],
    [("a.jpg", "Zwei Kater"), ("b.jpg", "Ein Hund rennt."), ("d.jpg", "Ein Haus"), ("b.jpg", "Ein brauner Hund")],
    [("b.jpg", "Zwei Katzen"), ("a.jpg", "Ein Hund rennt."), ("d.jpg", "Ein Haus"), ("b.jpg", "Ein brauner Hund")],
], ids=["fewer", "as many, another text", "as many, another image"])  # fmt: skip
def test_other_captions_in_the_same_folder_are_refused(corpus, new_tables, german):
    before, tables = contents(corpus.folder), new_tables(german=german)
    with pytest.raises(UserError, match="holds a corpus of other captions or settings.*choose another folder"):
        build_corpus(corpus.folder, tables, bpe_size=60)
    assert contents(corpus.folder) == before


@pytest.mark.parametrize(
    "settings, named",
    [({"bpe_size": 61}, "bpe_size is 60 there, 61 here"), ({"source_lang": "de"}, "source_lang is en there, de here")],
)
def test_other_settings_in_the_same_folder_are_refused(corpus, new_tables, settings, named):
    with pytest.raises(UserError, match=rf"other captions or settings \({named}\)"):
        build_corpus(corpus.folder, new_tables(), **settings)
    assert (
        build_corpus(corpus.folder, new_tables()).manifest == corpus.manifest
    )  # where none are given, it keeps its own


def test_an_interrupted_build_is_no_corpus_and_can_be_repeated(new_tables, tmp_path, monkeypatch):
    tables, folder = new_tables(), tmp_path / "corpus"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(split_building.np, "save", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        build_corpus(folder, tables)
    with pytest.raises(DataError, match="no corpus here; make one with mlvl-prepare"):
        Corpus(folder)
    assert build_corpus(folder, tables).languages() == ["en", "de", "cs"]
    assert not [name for _, _, names in os.walk(folder) for name in names if name.endswith(".tmp")]


@pytest.mark.parametrize("path", ["corpus.json", "captions/train.de.txt", "captions/valid.en.rows.npy"])
def test_fingerprint_follows_every_file(corpus, path):
    before = corpus.fingerprint
    with open(corpus.folder / path, "ab") as file:
        file.write(b" ")
    assert corpus.fingerprint != before


def test_unknown_languages_and_splits_are_named(corpus):
    corpus.require("train", "cs")
    for split, lang, known in (
        ("train", "fr", "en, de, cs"), ("valid", "cs", "en, de"), ("test", "en", "the splits train, valid"),
        ("test@coco", "en", "the splits train, valid"), ("train@coco", "en", "none"),
    ):  # fmt: skip
        for read in (corpus.require, corpus.captions, corpus.rows):
            with pytest.raises(UserError, match=rf"no {split} captions in language '{lang}' \(there are: {known}\)"):
                read(split, lang)


@pytest.mark.parametrize("content, message", [
    (b"{", "not JSON"),
    (b"\xff\xfe", "not JSON"),
    (b"[]", "expected object, found a list"),
    (b'{"format": 99}', "format 99 is not 1: another version has written it; use that one, or make"),
])  # fmt: skip
def test_broken_manifests(corpus, content, message):
    (corpus.folder / "corpus.json").write_bytes(content)
    with pytest.raises(DataError, match=message):
        Corpus(corpus.folder)


def test_missing_broken_and_unfitting_files(corpus):
    corpus.captions_path("train", "de").write_bytes(b"\xff\n")
    with pytest.raises(DataError, match=r"train\.de\.txt: not UTF-8"):
        corpus.captions("train", "de")
    with open(corpus.captions_path("train", "de"), "wb") as file:
        file.truncate(1 << 40)  # sparse
    with pytest.raises(DataError, match=r"train\.de\.txt:1: holds NUL bytes"):
        corpus.captions("train", "de")
    corpus.english_path("train").unlink()
    with pytest.raises(DataError, match=r"train\.english\.txt: no such file; run mlvl-prepare again"):
        corpus.english("train")
    np.save(corpus.rows_path("train", "de"), np.zeros((3, 2), np.int32))
    with pytest.raises(DataError, match=r"shape \(3, 2\) does not fit the manifest's 4 captions"):
        corpus.rows("train", "de")
    np.save(corpus.rows_path("train", "cs"), np.array([print], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"train\.cs\.rows\.npy"):
        corpus.rows("train", "cs")


def test_manifest_is_plain_json(corpus):
    assert json.loads((corpus.folder / "corpus.json").read_text(encoding="utf-8")) == corpus.manifest
    assert not corpus.has_features("train", "image")


def with_manifest(corpus, change):
    path = corpus.folder / "corpus.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
    return Corpus


CRAFTED = {
    "a language outside": lambda m: m["splits"]["train"]["captions"].update({"../../out": 1}),
    "an empty language": lambda m: m["splits"]["train"]["captions"].update({"": 1}),
    "a source language outside": lambda m: m.update(source_lang="../en"),
    "a split outside": lambda m: m["splits"].update({"../train": m["splits"]["train"]}),
    "an unknown split": lambda m: m["splits"].update({"dev": m["splits"]["train"]}),
    "splits in a list": lambda m: m.update(splits=[]),
    "a split in a list": lambda m: m["splits"].update(train=[]),
    "captions in a list": lambda m: m["splits"]["train"].update(captions=["en"]),
    "a count in words": lambda m: m["splits"]["train"]["captions"].update(en="4"),
    "a count of none": lambda m: m["splits"]["train"]["captions"].update(en=0),
    "a huge count": lambda m: m["splits"]["train"]["captions"].update(en=10**30),
    "a negative size": lambda m: m.update(bpe_size=-1),
    "a fractional size": lambda m: m.update(bpe_size=2.5),
    "a true size": lambda m: m.update(bpe_size=True),
    "a root in a list": lambda m: m.update(image_root=["/"]),
    "no digest": lambda m: m["splits"]["train"].pop("sha256"),
    "no splits": lambda m: m.pop("splits"),
}


@pytest.mark.parametrize("change", CRAFTED.values(), ids=CRAFTED)
def test_crafted_manifests_name_no_other_file(corpus, change):
    with pytest.raises(DataError, match=r"corpus\.json"):
        with_manifest(corpus, change)(corpus.folder)


def test_lists_and_rows_fit_the_manifest(corpus):
    counts = corpus.manifest["splits"]["train"]
    for kind, read in (("images", corpus.images), ("english", corpus.english)):
        corpus.manifest["splits"]["train"] = {**counts, kind: counts[kind] + 1}
        with pytest.raises(DataError, match=rf"has {counts[kind]} lines, not the {counts[kind] + 1} of corpus\.json"):
            read("train")
    corpus.manifest["splits"]["train"] = counts
    rows = np.array(corpus.rows("train", "de"))
    for column, value in ((0, counts["images"]), (1, counts["english"]), (0, -1), (1, -2)):
        wrong = rows.copy()
        wrong[-1, column] = value
        np.save(corpus.rows_path("train", "de"), wrong)
        with pytest.raises(
            DataError, match="train.de.rows.npy: points to images or English sentences that are not there"
        ):
            corpus.rows("train", "de")


def test_a_manifest_without_image_root_has_none(corpus):
    path = corpus.folder / "corpus.json"
    path.write_text(json.dumps({key: value for key, value in corpus.manifest.items() if key != "image_root"}))
    assert Corpus(corpus.folder).manifest == {**corpus.manifest, "image_root": None}
