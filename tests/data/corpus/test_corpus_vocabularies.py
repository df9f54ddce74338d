"""Vocabularies of a corpus: trained once, grown once, read ever after."""

import pytest

from mlvl_fairseq.data.corpus import CLIP_VOCABULARY, vocabulary_name
from mlvl_fairseq.data.corpus import vocabularies as module
from mlvl_fairseq.data.corpus.build import build_corpus
from mlvl_fairseq.data.corpus.vocabularies import (
    grown_vocabulary,
    language_vocabulary,
    tokenizer,
    union,
    vocabulary_folder,
)
from mlvl_fairseq.data.dictionary import ClipDictionary
from mlvl_fairseq.data.text import Vocabulary, clip_vocabulary, train_bpe
from mlvl_fairseq.errors import DataError, UserError


def test_names():
    assert vocabulary_name(["en", "de"]) == "en+de" and vocabulary_name([]) == CLIP_VOCABULARY == "clip"


def test_a_language_s_vocabulary_is_trained_once_from_its_training_captions(corpus, monkeypatch):
    own = language_vocabulary(corpus, "de", train=True)
    assert own == train_bpe(corpus.captions("train", "de"), 60)
    monkeypatch.setattr(module, "train_bpe", None)
    assert language_vocabulary(corpus, "de", train=True) == language_vocabulary(corpus, "de") == own


def test_it_is_never_trained_silently(corpus):
    with pytest.raises(DataError, match=r"bpe/de.60/vocab.json: no vocabulary here .*run mlvl-prepare"):
        language_vocabulary(corpus, "de")
    with pytest.raises(DataError, match="run mlvl-prepare"):
        grown_vocabulary(corpus, ["de"])
    assert not vocabulary_folder(corpus, ["de"]).exists()


def test_an_interrupted_training_is_repeated(corpus):
    own = language_vocabulary(corpus, "de", train=True)
    (corpus.folder / "bpe" / "de.60" / "merges.txt").unlink()  # the last file to be written
    assert language_vocabulary(corpus, "de", train=True) == own


def test_growing_follows_the_order_and_is_saved_beside_its_dictionary(corpus):
    own = {lang: language_vocabulary(corpus, lang, train=True) for lang in ("de", "cs")}
    grown = grown_vocabulary(corpus, ["de", "cs"])
    assert grown == clip_vocabulary().grown_by(own["de"]).grown_by(own["cs"])
    assert grown != grown_vocabulary(corpus, ["cs", "de"])
    folder = vocabulary_folder(corpus, ["de", "cs"])
    assert ClipDictionary.load(str(folder / "dict.txt")).symbols == grown.tokens == Vocabulary.load(folder).tokens
    assert grown_vocabulary(corpus, []) == clip_vocabulary()
    assert len(tokenizer(corpus, ["de", "cs"])) == len(grown)


def test_a_grown_vocabulary_is_read_and_not_grown_again(corpus):
    language_vocabulary(corpus, "de", train=True)
    grown = grown_vocabulary(corpus, ["de"])
    train_bpe(corpus.captions("train", "cs"), 60).save(corpus.folder / "bpe" / "de.60")  # however it came there
    assert grown_vocabulary(corpus, ["de"]) == grown


def test_a_language_must_bring_tokens_unless_it_is_clip_s_own(new_tables, tmp_path):
    """Else its captions are probably English; the published code lost all new tokens without noticing."""
    tables = new_tables(german=[("a.jpg", "a cat"), ("b.jpg", "the dog")])
    tables["train"]["en"].captions[:] = ["a cat"] * len(tables["train"]["en"])
    corpus = build_corpus(tmp_path / "corpus", tables, bpe_size=60)
    for lang in ("en", "de"):
        language_vocabulary(corpus, lang, train=True)
    assert grown_vocabulary(corpus, ["en"]).tokens == clip_vocabulary().tokens
    with pytest.raises(UserError, match="language 'de' adds no token to the vocabulary"):
        grown_vocabulary(corpus, ["en", "de"])
    assert not vocabulary_folder(corpus, ["en", "de"]).exists()


def test_the_union_of_languages_is_one_vocabulary_of_all_their_captions(corpus, monkeypatch):
    """The oracle: trained on first use, of a size of its own."""
    monkeypatch.setattr(module, "UNION_BPE_SIZE", 90)
    name = union(["de", "cs"])
    assert name == "de&cs" and union(["de"]) == "de"
    captions = corpus.captions("train", "de") + corpus.captions("train", "cs")
    expected = train_bpe(captions, 90)
    assert grown_vocabulary(corpus, [name]) == clip_vocabulary().grown_by(expected)
    assert language_vocabulary(corpus, name) == expected and (corpus.folder / "bpe" / "de&cs.90").is_dir()
    monkeypatch.setattr(module, "train_bpe", None)
    assert len(grown_vocabulary(corpus, [name])) == len(tokenizer(corpus, [name]))
