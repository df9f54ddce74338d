"""Words of hundreds of thousands of letters, which the web has: learned from in pieces, encoded whole."""

import random

import pytest

from mlvl_fairseq.data.text import ClipTokenizer, clip_vocabulary, train_bpe
from mlvl_fairseq.data.text import bpe_training as training


def letters(count, seed=0):
    return "".join(random.Random(seed).choices("abcdefghijklmnop", k=count))


def test_pieces_hold_the_whole_word_and_mark_its_end_only():
    word = "a" * 5000 + "b" * 5000
    pieces = training._in_pieces(word).split("\t")
    assert "".join(pieces) == word and max(map(len, pieces)) == training.PIECE and len(pieces) == 20
    assert training._in_pieces(word[: training.LONGEST_WORD]) == word[: training.LONGEST_WORD]
    assert [token for token in train_bpe([word], 10_000).tokens if "</w>" in token][0] == "b</w>"
    seams = train_bpe(["c" * training.PIECE + "d" * training.LONGEST_WORD, "d"], 10_000)
    assert ("c", "d") not in seams.merges and ("c", "c") in seams.merges


def test_words_that_writing_has_are_learned_from_whole():
    """At a seam of pieces ``x`` and ``y`` would never meet."""
    part = "a" * (training.PIECE - 1) + "x" + "y" + "a" * (training.PIECE - 1)
    word = part * (training.LONGEST_WORD // len(part))
    assert len(word) == training.LONGEST_WORD
    assert any("xy" in token for token in train_bpe([word], 10_000).tokens)
    assert not any("xy" in token for token in train_bpe([word + "a"], 10_000).tokens)


@pytest.mark.parametrize("word", [letters(100_000), "a" * 100_000, "\u00e9" * 30_000, "ab" * 50_000])
def test_what_a_model_sees_of_a_long_word_is_its_beginning(word):
    """The encoder has no limit: nothing is cut before the model's length."""
    tokenizer = ClipTokenizer(clip_vocabulary())
    (ids,) = tokenizer.encode_batch([word])
    assert tokenizer.decode(ids) == word
    assert tokenizer.tokenize([word], 77) == [[tokenizer.bos, *ids[:75], tokenizer.eos]]


def test_the_bar_ends_where_the_pairs_end(monkeypatch):
    bars = []

    class Bar(training.tqdm):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            bars.append(self)

    monkeypatch.setattr(training, "tqdm", Bar)
    vocabulary = train_bpe(["ab ab"], 10_000, progress=True)
    assert (bars[0].n, bars[0].total) == (len(vocabulary.merges), len(vocabulary.merges)) == (1, 1)
