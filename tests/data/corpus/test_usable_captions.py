"""Captions whose image or English sentence has no usable feature take part in nothing."""

import numpy as np
import pytest

from mlvl_fairseq.data import features
from mlvl_fairseq.data.corpus import Corpus
from mlvl_fairseq.data.corpus.binarize import binarize, count_english_tokens, count_tokens, open_tokens
from mlvl_fairseq.data.corpus.prepare import prepare_vocabularies, store_image_features
from mlvl_fairseq.data.corpus.vocabularies import GrownVocabulary
from mlvl_fairseq.data.features import FeatureWriter
from mlvl_fairseq.data.images.policy import BadImagePolicy
from mlvl_fairseq.errors import DataError

# Rows of the corpus: images b a c d e; English "A dog runs." "A brown dog" "Two cats" "A bird" "Three cats".
CAPTIONS = {"en": "bbaac", "de": "abdb", "cs": "baea"}


def store(corpus, split, kind, bad=(), change=lambda made: made, rows=None):
    names = corpus.english(split) if kind == "text" else corpus.images(split)
    names = names[:rows]
    made = change(np.random.default_rng(len(kind)).normal(size=(len(names), 3)).astype(np.float32))
    with FeatureWriter(corpus.feature_stem(split, kind), names, 3, "m", "w") as writer:
        writer.write(made[writer.rows_done :], [row for row in bad if row >= writer.rows_done])


def test_captions_of_bad_images_and_sentences_leave(corpus):
    assert corpus.images("train") == [f"{name}.jpg" for name in "bacde"]
    assert [corpus.usable("train", lang).tolist() for lang in CAPTIONS] == [[0, 1, 2, 3, 4], [0, 1, 2, 3], [0, 1, 2, 3]]
    store(corpus, "train", "image", bad=[0])  # b
    assert [corpus.usable("train", lang).tolist() for lang in CAPTIONS] == [[2, 3, 4], [0, 2], [1, 2, 3]]
    store(corpus, "train", "inputs", bad=[3])  # d
    assert corpus.usable("train", "de").tolist() == [0, 2]
    assert corpus.usable("train", "de", ("inputs", "image")).tolist() == [0]
    assert corpus.usable("train", "de", ("inputs",)).tolist() == [0, 1, 3]
    assert corpus.english("train")[4] == "Three cats"
    store(corpus, "train", "text", bad=[4])  # two Czech captions have it
    assert corpus.usable("train", "cs").tolist() == [3]
    assert corpus.usable("train", "de").tolist() == [0, 2]  # where -1 stands for no sentence, nothing is missing
    assert corpus.usable("valid", "de").tolist() == [0, 1, 2, 3]


def test_what_leaves_is_said(corpus):
    store(corpus, "train", "image", bad=[0, 3])
    usable = {lang: corpus.usable("train", lang) for lang in CAPTIONS}
    assert corpus.left_out("train", usable) == (
        "train: 2 images have no usable features (b.jpg, d.jpg); captions left out: 2 in en, 3 in de, 1 in cs"
    )
    assert corpus.left_out_images("train", "de", usable["de"]) == (["b.jpg", "d.jpg"], 3)
    assert corpus.left_out("valid", {lang: corpus.usable("valid", lang) for lang in ("en", "de")}) == ""


def test_unfinished_features_are_not_taken_for_all(corpus):
    store(corpus, "train", "image", rows=3)
    assert corpus.finished_features("train") == []
    with pytest.raises(DataError, match="more have been added since"):
        corpus.usable("train", "en")
    store(corpus, "train", "image")
    assert corpus.finished_features("train") == ["image"]


def test_given_features_that_say_nothing_leave_with_their_captions(corpus, tmp_path):
    names = corpus.images("train")
    given = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float16)
    given[1], given[4] = 0, 7
    np.save(tmp_path / "f.npy", given)
    (tmp_path / "f.txt").write_text("".join(f"{name}\n" for name in names))
    files = {"train": tmp_path / "f.npy"}, {"train": tmp_path / "f.txt"}
    with pytest.raises(DataError, match="the feature of 'a.jpg' is zero"):
        store_image_features(corpus, *files)
    assert not corpus.has_features("train", "inputs")
    for _ in range(2):  # again: nothing changes
        store_image_features(corpus, *files, BadImagePolicy("skip"))
    given[4] = 0
    assert np.array_equal(corpus.features("train", "inputs"), given)
    assert np.flatnonzero(corpus.unusable("train", "inputs")).tolist() == [1, 4]
    assert corpus.usable("train", "cs", ("inputs",)).tolist() == [0]


def test_tokens_of_captions_that_leave_are_not_counted(corpus):
    prepare_vocabularies(corpus)
    vocabulary = GrownVocabulary(corpus)
    every = [ids.tolist() for ids in open_tokens(binarize(vocabulary, "en") / "train")]
    size = len(vocabulary.tokenizer)
    for captions in ([0, 2, 3], [], [0, 1, 2, 3, 4]):
        expected = np.bincount([i for c in captions for i in every[c]], minlength=size)
        assert np.array_equal(count_tokens(vocabulary, "en", size, np.array(captions, int)), expected)
    assert count_tokens(vocabulary, "en", size).sum() == sum(map(len, every))


def test_sentences_that_no_caption_has_any_more_are_not_counted(corpus):
    prepare_vocabularies(corpus)
    tokenizer, sentences = GrownVocabulary(corpus).tokenizer, corpus.english("train")
    whole = count_english_tokens(corpus)
    store(corpus, "train", "image", bad=[2, 4])  # "A bird" of c is Czech a's, too; "Three cats" is still a's
    assert np.array_equal(count_english_tokens(Corpus(corpus.folder)), whole)
    store(corpus, "valid", "image", bad=[0])
    store(corpus, "train", "text")
    other = Corpus(corpus.folder)
    for kind in ("json", "npy"):
        corpus.feature_stem("train", f"image.{kind}").unlink()
    store(other, "train", "image", bad=[1, 4])  # "Two cats" was a's alone; "Three cats" of a and e
    kept = [s for s in sentences if s not in ("Two cats", "Three cats")]
    expected = np.bincount(np.concatenate(tokenizer.encode_batch(kept)), minlength=len(tokenizer))
    assert np.array_equal(count_english_tokens(other), expected) and expected.sum() < whole.sum()


def test_a_language_s_teacher_is_known_by_its_features(corpus):
    assert corpus.teacher_fingerprint("en") is None
    for split in ("train", "valid"):
        for kind in ("image", "text"):
            store(corpus, split, kind, rows=3 if (split, kind) == ("train", "image") else None)
    # English has the first three images only: features of others, added later, do not change it.
    with pytest.raises(DataError, match="more have been added since"):
        corpus.teacher_fingerprint("en")
    store(corpus, "train", "image")
    before = {lang: corpus.teacher_fingerprint(lang) for lang in CAPTIONS}
    assert len(set(before.values())) == 3
    assert {lang: Corpus(corpus.folder).teacher_fingerprint(lang) for lang in CAPTIONS} == before

    def other_last_row(made):
        made[-1, 0] += 1
        return made

    for kind in ("json", "npy"):
        corpus.feature_stem("train", f"image.{kind}").unlink()
    store(corpus, "train", "image", change=other_last_row)  # e, which only a Czech caption has
    assert [lang for lang in CAPTIONS if corpus.teacher_fingerprint(lang) != before[lang]] == ["cs"]


def test_features_are_verified_once_and_again_when_they_change(corpus, monkeypatch):
    store(corpus, "train", "image")
    calls, real = [], features.verify_rows
    monkeypatch.setattr(features, "verify_rows", lambda *args: (calls.append(args), real(*args)))
    for _ in range(3):
        corpus.features("train", "image")
    assert len(calls) == 1
    path = corpus.feature_stem("train", "image.npy")
    content = bytearray(path.read_bytes())
    content[-2] ^= 4
    path.write_bytes(content)
    with pytest.raises(DataError, match="train.image.npy: is damaged: some of its rows 1 to 5 "):
        corpus.features("train", "image")
