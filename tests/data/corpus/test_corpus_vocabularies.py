"""Vocabularies of a corpus: trained once, grown once, read ever after."""

import pytest

from mlvl_fairseq.data.corpus import vocabularies as module
from mlvl_fairseq.data.corpus.build import build_corpus
from mlvl_fairseq.data.corpus.vocabularies import (
    GrownVocabulary,
    UnionVocabulary,
    begin_with,
    first_vocabulary,
    language_vocabulary,
)
from mlvl_fairseq.data.text import ClipTokenizer, Vocabulary, clip_vocabulary, train_bpe
from mlvl_fairseq.errors import DataError, UserError


def grown(corpus, languages):
    """The vocabulary, made anew from what is in the folder."""
    return GrownVocabulary(corpus, languages).tokenizer.vocabulary


def test_folders_on_disk_are_those_of_corpora_that_are_there(corpus):
    """They are in README and docs/data.md, and in folders that earlier versions wrote."""
    folders = {
        GrownVocabulary(corpus): "clip",
        GrownVocabulary(corpus, ["de"]): "de",
        GrownVocabulary(corpus, ["en", "de"]): "en+de",
        UnionVocabulary(corpus, ["en", "de"]): "en&de",
        UnionVocabulary(corpus, ["en"]): "en",
    }
    for vocabulary, name in folders.items():
        assert vocabulary.folder == corpus.folder / "bin" / name
        assert vocabulary.binarized("cs") == corpus.folder / "bin" / name / "cs"


def test_a_language_s_vocabulary_is_trained_once_from_its_training_captions(corpus, monkeypatch):
    own = language_vocabulary(corpus, "de", train=True)
    assert own == train_bpe(corpus.captions("train", "de"), 60)
    monkeypatch.setattr(module, "train_bpe", None)
    assert language_vocabulary(corpus, "de", train=True) == language_vocabulary(corpus, "de") == own


def test_it_is_never_trained_silently(corpus):
    with pytest.raises(DataError, match=r"bpe/de.60/vocab.json: no such file; make it again with mlvl-prepare"):
        language_vocabulary(corpus, "de")
    with pytest.raises(DataError, match="vocab.json: no such file; make it again with mlvl-prepare"):
        grown(corpus, ["de"])
    assert not GrownVocabulary(corpus, ["de"]).folder.exists()


def test_an_interrupted_training_is_repeated(corpus):
    own = language_vocabulary(corpus, "de", train=True)
    (corpus.folder / "bpe" / "de.60" / "merges.txt").unlink()  # the last file to be written
    assert language_vocabulary(corpus, "de", train=True) == own


def test_growing_follows_the_order_and_is_saved_beside_its_dictionary(corpus):
    own = {lang: language_vocabulary(corpus, lang, train=True) for lang in ("de", "cs")}
    both = grown(corpus, ["de", "cs"])
    assert both == clip_vocabulary().grown_by(own["de"]).grown_by(own["cs"])
    assert both != grown(corpus, ["cs", "de"])
    vocabulary = GrownVocabulary(corpus, ["de", "cs"])
    dictionary = ClipTokenizer.load_dictionary(vocabulary.folder / "dict.txt")
    assert dictionary.symbols == both.tokens == Vocabulary.load(vocabulary.folder).tokens
    assert vocabulary.load_dictionary(["cs"]).symbols == both.tokens
    assert grown(corpus, []) == clip_vocabulary()
    assert len(vocabulary.tokenizer) == len(both)


def test_a_grown_vocabulary_is_read_and_not_grown_again(corpus):
    language_vocabulary(corpus, "de", train=True)
    before = grown(corpus, ["de"])
    train_bpe(corpus.captions("train", "cs"), 60).save(corpus.folder / "bpe" / "de.60")  # however it came there
    assert grown(corpus, ["de"]) == before


def test_a_language_must_bring_tokens_unless_it_is_clip_s_own(new_tables, tmp_path):
    """Else its captions are probably English; the published code lost all new tokens without noticing."""
    tables = new_tables(german=[("a.jpg", "a cat"), ("b.jpg", "the dog")])
    tables["train"]["en"].captions[:] = ["a cat"] * len(tables["train"]["en"])
    corpus = build_corpus(tmp_path / "corpus", tables, bpe_size=60)
    for lang in ("en", "de"):
        language_vocabulary(corpus, lang, train=True)
    assert grown(corpus, ["en"]).tokens == clip_vocabulary().tokens
    with pytest.raises(UserError, match="language 'de' adds no token to the vocabulary"):
        grown(corpus, ["en", "de"])
    assert not GrownVocabulary(corpus, ["en", "de"]).folder.exists()


def test_the_union_of_languages_is_one_vocabulary_of_all_their_captions(corpus, monkeypatch):
    """The oracle: trained on first use, of a size of its own."""
    monkeypatch.setattr(module, "UNION_BPE_SIZE", 90)
    captions = corpus.captions("train", "de") + corpus.captions("train", "cs")
    expected = train_bpe(captions, 90)
    union = UnionVocabulary(corpus, ["de", "cs"]).tokenizer.vocabulary
    assert union == clip_vocabulary().grown_by(expected)
    assert Vocabulary.load(corpus.folder / "bpe" / "de&cs.90") == expected
    monkeypatch.setattr(module, "train_bpe", None)
    assert UnionVocabulary(corpus, ["de", "cs"]).tokenizer.vocabulary == union


def test_a_union_of_one_language_is_that_language_s_own(corpus):
    assert UnionVocabulary(corpus, ["de"]).tokenizer.vocabulary == grown(corpus, ["de"])
    assert [path.name for path in (corpus.folder / "bpe").iterdir()] == ["de.60"]


def test_what_is_not_prepared_is_told_with_its_command(corpus):
    order, union = GrownVocabulary(corpus, ["en", "de"]), UnionVocabulary(corpus, ["en", "de"])
    with pytest.raises(UserError, match=r"no vocabulary in .*bin/en\+de; make it with: mlvl-prepare .* --order en,de$"):
        order.load_dictionary(["de"])
    with pytest.raises(UserError, match="mlvl-prepare .* --joint en,de$"):
        order.load_dictionary(["en", "de"])
    with pytest.raises(UserError, match="bin/en&de; make it with: mlvl-prepare .* --oracle en,de$"):
        union.load_dictionary(["en"])
    with pytest.raises(UserError, match="bin/clip; make it with: mlvl-prepare [^ ]*$"):
        GrownVocabulary(corpus).load_dictionary(["en"])


def test_a_dictionary_that_is_not_the_vocabulary_s_is_refused(corpus):
    vocabulary = GrownVocabulary(corpus)
    assert vocabulary.tokenizer.vocabulary == clip_vocabulary()  # made on first use
    path = vocabulary.folder / "dict.txt"
    path.write_text(path.read_text().replace("a</w> 1\n", "", 1))
    with pytest.raises(DataError, match="dict.txt: differs from vocab.json beside it; run mlvl-prepare again"):
        GrownVocabulary(corpus).load_dictionary([])


def test_languages_add_to_what_another_model_has_learned(corpus):
    learned = clip_vocabulary().grown_by(train_bpe(["kissa", "koira", "kissa koira"], 20))
    assert first_vocabulary(corpus) == clip_vocabulary() and not GrownVocabulary(corpus).folder.exists()
    begin_with(corpus, learned, "their_model")
    own = language_vocabulary(corpus, "de", train=True)
    assert grown(corpus, ["de"]) == learned.grown_by(own) and first_vocabulary(corpus) == learned
    assert UnionVocabulary(corpus, ["de"]).tokenizer.vocabulary.tokens[: len(learned)] == learned.tokens
    begin_with(corpus, learned, "their_model")  # again: the same
    with pytest.raises(UserError, match="vocabularies that do not begin with that of other .bin/clip.: give --begin"):
        begin_with(corpus, clip_vocabulary(), "other")
