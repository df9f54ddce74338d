"""Stored states of captions are of the ids that batches have, with an EOS and without."""

import numpy as np
import pytest

from mlvl_fairseq.data.captions import CaptionTable, Problems
from mlvl_fairseq.data.corpus.build import build_corpus
from mlvl_fairseq.data.corpus.prepare import binarize_all
from mlvl_fairseq.data.corpus.text_states import CorpusStates, CorpusVectors
from mlvl_fairseq.data.corpus.vocabularies import GivenVocabulary
from mlvl_fairseq.data.text.wordpiece import WordPieces, WordPieceTokenizer
from mlvl_fairseq.errors import DataError, UserError

TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "ball", "box", "and"]
CAPTIONS = ["a red ball", "box", "a red ball and a box"]
PIECES = [[5, 6, 7], [8], [5, 6, 7, 9, 5, 8]]
CLS, SEP = 2, 3


def states_of(kind, folder, ends_texts, max_length=6):
    rows = np.arange(len(CAPTIONS), dtype=np.int32)
    table = CaptionTable("file", [f"{row}.jpg" for row in rows], rows, CAPTIONS, None, rows + 1, "line", Problems())
    corpus = build_corpus(folder, {"train": {"en": table}}, bpe_size=60)
    tokenizer = WordPieceTokenizer(WordPieces(TOKENS, lowercase=True, strip_accents=True, ends_texts=ends_texts))
    binarize_all(corpus, tokenizer)
    return kind(GivenVocabulary(corpus, tokenizer), max_length, "ab" * 32)


@pytest.mark.parametrize("ends_texts, expected", [
    (True, [[CLS, 5, 6, 7, SEP], [CLS, 8, SEP], [CLS, 5, 6, 7, 9, SEP]]),
    (False, [[CLS, 5, 6, 7], [CLS, 8], [CLS, 5, 6, 7, 9, 5]]),
])  # fmt: skip
def test_states_are_of_the_ids_of_batches(tmp_path, ends_texts, expected):
    states = states_of(CorpusStates, tmp_path, ends_texts)
    assert expected == states.vocabulary.tokenizer.tokenize(CAPTIONS, 6)
    states.write("train", "en", lambda captions: [np.array(ids, float)[:, None] for ids in captions], 1, "test")
    found = states.open("train", "en")
    assert [found[row][:, 0].tolist() for row in range(len(found))] == expected


def test_vectors_are_one_a_caption(tmp_path):
    vectors = states_of(CorpusVectors, tmp_path, True)
    assert not vectors.is_finished("train", "en")
    vectors.write("train", "en", lambda captions: [np.array([[len(ids), ids[1] / 3]]) for ids in captions], 2, "test")
    assert vectors.is_finished("train", "en")
    found = vectors.open("train", "en")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.array([[5, 5 / 3], [3, 8 / 3], [6, 5 / 3]], np.float32))
    assert vectors.stem("train", "en").name == f"train.en.vectors-{vectors.key[:12]}"


@pytest.mark.parametrize("kind", [CorpusStates, CorpusVectors])
def test_what_something_else_made_is_not_found(tmp_path, kind):
    one = states_of(kind, tmp_path / "a", True)
    others = [states_of(kind, tmp_path / "b", False), states_of(kind, tmp_path / "c", True, 5)]
    others.append(kind(one.vocabulary, 6, "cd" * 32))
    assert len({one.key, *(other.key for other in others)}) == 4
    error, message = (UserError, "no states of the train captions in 'en' by this text encoder: run mlvl-prepare")
    if kind is CorpusVectors:
        error, message = DataError, "extract the features"
    with pytest.raises(error, match=message):
        one.open("train", "en")
