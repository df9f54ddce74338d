"""Languages that are added to a corpus: what it has stays what it is, or it is said what would not."""

import json
from dataclasses import replace

import numpy as np
import pytest

from mlvl_fairseq.data.captions import Problems
from mlvl_fairseq.data.corpus import Corpus
from mlvl_fairseq.data.corpus import build as building
from mlvl_fairseq.data.corpus.binarize import count_english_tokens
from mlvl_fairseq.data.corpus.build import build_corpus, set_image_root
from mlvl_fairseq.errors import UserError


def only(tables, *languages):
    return {split: {lang: table for lang, table in one.items() if lang in languages} for split, one in tables.items()}


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def smaller(new_tables, tmp_path):
    """A corpus of English and German: Czech brings an image and a sentence that it lacks."""
    return build_corpus(tmp_path / "smaller", only(new_tables(), "en", "de"), bpe_size=60)


@pytest.mark.parametrize("given", [("en", "de", "cs"), ("cs", "de", "en")])
def test_it_becomes_the_corpus_that_had_all_languages_from_the_start(corpus, smaller, new_tables, given):
    images, english = smaller.images("train"), smaller.english("train")
    tables = {split: {lang: one[lang] for lang in given if lang in one} for split, one in new_tables().items()}
    extended = build_corpus(smaller.folder, tables)
    assert extended.manifest == corpus.manifest and contents(extended.folder) == contents(corpus.folder)
    assert extended.images("train") == [*images, "e.jpg"] and extended.english("train") == [*english, "Three cats"]


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("held", [(), ("en",), ("de",)])
def test_languages_that_are_not_given_stay_as_they_are(corpus, smaller, new_tables, held, workers):
    """Their files are not read; the result is the corpus that had all of them from the start."""
    tables = {"train": {lang: new_tables()["train"][lang] for lang in (*held, "cs")}}
    extended = build_corpus(smaller.folder, tables, workers=workers)
    assert extended.manifest == corpus.manifest and contents(extended.folder) == contents(corpus.folder)


def test_a_language_beside_one_that_is_not_given_must_be_what_it_was(smaller, new_tables):
    before, tables = contents(smaller.folder), new_tables()
    changed(captions=[CAPTIONS[0], "Ein Hund", *CAPTIONS[2:]])(tables)
    with pytest.raises(UserError, match="the train captions in de are others: line 2 is 'Ein Hund rennt.' there"):
        build_corpus(smaller.folder, {"train": {lang: tables["train"][lang] for lang in ("de", "cs")}})
    assert contents(smaller.folder) == before


def test_spaces_that_lines_do_not_show_are_kept(new_tables, tmp_path):
    """A triplet may spell its English sentence so."""

    def tables():
        made = new_tables()["train"]
        for texts in (made["en"].captions, made["cs"].english):
            texts[:] = [text.replace("A dog", "A  dog") for text in texts]
        return made

    whole = build_corpus(tmp_path / "whole", {"train": tables()})
    corpus = build_corpus(tmp_path / "corpus", {"train": {"en": tables()["en"]}})
    for lang in ("de", "cs"):
        corpus = build_corpus(corpus.folder, {"train": {lang: tables()[lang]}})
    assert corpus.manifest == whole.manifest and contents(corpus.folder) == contents(whole.folder)
    assert corpus.english("train")[0] == "A dog runs." and corpus.rows("train", "cs")[0].tolist() == [0, 0]
    (corpus.folder / "captions" / "train.english.json").unlink()  # as an earlier version wrote it
    before = contents(corpus.folder)
    with pytest.raises(UserError, match="train captions are not, to the letter, .* give the files of en,de,cs, too"):
        build_corpus(corpus.folder, {"train": {"fr": tables()["de"]}})
    assert contents(corpus.folder) == before


def test_new_images_and_sentences_are_told(smaller, new_tables, caplog):
    with caplog.at_level("INFO"):
        build_corpus(smaller.folder, new_tables())
    assert "train: added cs, with 1 more images and 1 more English sentences; run mlvl-prepare" in caplog.text
    assert "valid: added" not in caplog.text


def test_a_source_language_can_come_later(new_tables, tmp_path):
    """Sentences of the triplets are numbered already."""
    corpus = build_corpus(tmp_path / "corpus", only({"train": new_tables()["train"]}, "cs"))
    extended = build_corpus(corpus.folder, {"train": new_tables()["train"]})
    assert extended.languages() == ["cs", "en", "de"]
    assert extended.english("train") == ["A dog runs.", "Three cats", "A bird", "A brown dog", "Two cats"]
    assert extended.images("train") == ["b.jpg", "a.jpg", "e.jpg", "c.jpg", "d.jpg"]
    assert extended.rows("train", "en").tolist() == [[0, 0], [0, 3], [1, 4], [1, 0], [3, 2]]
    assert extended.rows("train", "de").tolist() == [[1, 4], [0, 0], [4, -1], [0, 3]]
    assert extended.language_fingerprint("cs") == corpus.language_fingerprint("cs")


def test_a_corpus_that_is_built_again_keeps_its_counts(smaller, new_tables):
    count_english_tokens(smaller)
    before = contents(smaller.folder)
    build_corpus(smaller.folder, only(new_tables(), "en", "de"))
    assert contents(smaller.folder) == before


def test_english_tokens_are_counted_again(smaller, corpus, new_tables):
    before = count_english_tokens(smaller)
    after = count_english_tokens(build_corpus(smaller.folder, new_tables()))
    assert after.sum() == before.sum() + 2 and np.array_equal(after, count_english_tokens(corpus))


def changed(**fields):
    def change(tables):
        tables["train"]["de"] = replace(tables["train"]["de"], **fields, problems=Problems())

    return change


def renamed(tables):
    for one in tables["train"].values():
        one.images[:] = [name.replace("b.jpg", "B.jpg") for name in one.images]


CAPTIONS = ["Zwei Katzen", "Ein Hund rennt.", "Ein Haus", "Ein brauner Hund"]


@pytest.mark.parametrize(
    "change, named",
    [
        (lambda tables: tables.update(test=tables["valid"]), "it has no test captions"),
        (
            changed(captions=[CAPTIONS[0], "Ein Hund", *CAPTIONS[2:]]),
            "the train captions in de are others: line 2 is 'Ein Hund rennt.' there, 'Ein Hund' here",
        ),
        (
            changed(captions=CAPTIONS[:3], image_rows=np.array([0, 1, 2], np.int32)),
            "the train captions in de are others: 4 lines there, 3 here",
        ),
        (changed(image_rows=np.array([1, 1, 2, 1])), "the train captions in de have other images or English sentences"),
        (renamed, "the train images are others: line 1 is 'b.jpg' there, 'B.jpg' here"),
    ],
)
def test_what_would_change_is_named(smaller, new_tables, change, named):
    before, tables = contents(smaller.folder), new_tables()
    change(tables)
    with pytest.raises(UserError, match="other captions or settings") as error:
        build_corpus(smaller.folder, tables)
    assert named in str(error.value) and contents(smaller.folder) == before


def test_an_interrupted_addition_is_repeated(smaller, corpus, new_tables, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(building, "write_json", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        build_corpus(smaller.folder, new_tables())
    assert Corpus(smaller.folder).languages() == ["en", "de"]
    assert build_corpus(smaller.folder, new_tables()).manifest == corpus.manifest
    assert contents(smaller.folder) == contents(corpus.folder)


# What a run depends on


def test_a_language_s_fingerprint_stays_when_others_are_added(smaller, corpus, new_tables, tmp_path):
    before = {lang: smaller.language_fingerprint(lang) for lang in ("en", "de")}
    extended = build_corpus(smaller.folder, new_tables())
    after = {lang: extended.language_fingerprint(lang) for lang in ("en", "de", "cs")}
    assert before.items() < after.items() and len(set(after.values())) == 3
    (tmp_path / "b.jpg").touch()
    assert set_image_root(extended, tmp_path).language_fingerprint("de") == before["de"]
    assert smaller.fingerprint != corpus.fingerprint


@pytest.mark.parametrize("path, languages", [
    ("captions/train.de.txt", ["de"]),
    ("captions/valid.en.rows.npy", ["en"]),
    ("images/train.txt", ["en", "de", "cs"]),
    ("captions/train.english.txt", ["en", "de", "cs"]),
])  # fmt: skip
def test_a_language_s_fingerprint_follows_its_files(corpus, path, languages):
    before = {lang: corpus.language_fingerprint(lang) for lang in ("en", "de", "cs")}
    file = corpus.folder / path
    content = file.read_bytes()
    no_english = np.int32(-1).tobytes()  # of the last caption
    file.write_bytes(content[:-4] + no_english if path.endswith(".npy") else b"x" + content)
    assert [lang for lang in before if corpus.language_fingerprint(lang) != before[lang]] == languages


# Where the images are


def test_the_image_root_can_be_put_right(smaller, new_tables, tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "b.jpg").touch()
    for given in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(UserError, match=f"there is no {given}/b.jpg, the first image of the train split; give the"):
            set_image_root(smaller, given)
        with pytest.raises(UserError, match=f"there is no {given}/b.jpg"):
            build_corpus(tmp_path / "new", new_tables(), image_root=given)
        with pytest.raises(UserError, match=f"there is no {given}/b.jpg"):
            build_corpus(smaller.folder, new_tables(), image_root=given)
    assert not (tmp_path / "new").exists() and smaller.languages() == ["en", "de"]
    root = str(tmp_path / "pictures")
    assert set_image_root(smaller, root).manifest == {**smaller.manifest, "image_root": root}
    extended = build_corpus(smaller.folder, new_tables())
    assert extended.manifest["image_root"] == root and extended.languages() == ["en", "de", "cs"]
    (tmp_path / "moved").mkdir()
    (tmp_path / "moved" / "b.jpg").touch()
    moved = build_corpus(smaller.folder, new_tables(), image_root=tmp_path / "moved")
    assert moved.manifest == {**extended.manifest, "image_root": str(tmp_path / "moved")}
    assert json.loads((smaller.folder / "corpus.json").read_text(encoding="utf-8")) == moved.manifest
