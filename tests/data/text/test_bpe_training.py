"""BPE training against a slow implementation, and its promises: limits, ties, determinism."""

import random
from collections import Counter

import pytest

from mlvl_fairseq.data.text import BOS_TOKEN, EOS_TOKEN, ClipTokenizer, train_bpe
from mlvl_fairseq.data.text import bpe_training as training


def slow_bpe(captions, vocab_size):
    """Tokens and merges by counting every pair anew before every merge."""
    counts = Counter(word for caption in captions for word in caption.split())
    words = {word: [*word[:-1], word[-1] + "</w>"] for word in counts}
    tokens = [BOS_TOKEN, EOS_TOKEN, *sorted({symbol for symbols in words.values() for symbol in symbols})]
    merges = []
    while len(tokens) < vocab_size:
        pairs = Counter()
        for word, symbols in words.items():
            for pair in zip(symbols, symbols[1:]):
                pairs[pair] += counts[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        tokens.append("".join(best))
        for word, symbols in words.items():
            words[word] = merged(symbols, best)
    return tokens, merges


def merged(symbols, pair):
    if len(symbols) < 2:
        return symbols
    if tuple(symbols[:2]) == pair:
        return ["".join(pair), *merged(symbols[2:], pair)]
    return [symbols[0], *merged(symbols[1:], pair)]


@pytest.mark.parametrize("letters, longest", [("ab", 12), ("abcde", 9), ("abcdefghijklmnop", 40)])
@pytest.mark.parametrize("seed", range(6))
def test_training_equals_counting_everything_anew(letters, longest, seed):
    rng = random.Random(seed)
    lexicon = ["".join(rng.choices(letters, k=rng.randint(1, longest))) for _ in range(15)]
    captions = [" ".join(rng.choices(lexicon, k=rng.randint(1, 8))) for _ in range(30)]
    vocabulary = train_bpe(captions, 80)
    assert (vocabulary.tokens, vocabulary.merges) == slow_bpe(captions, 80)
    assert len(vocabulary.merges) > 20


@pytest.mark.parametrize("seed", range(20))
def test_every_merge_makes_a_token_of_its_own(seed):
    """Also where one letter repeats, so that a pair's occurrences overlap."""
    rng = random.Random(seed)
    captions = ["".join(rng.choices("ab", [3, 1], k=rng.randint(2, 14))) for _ in range(30)]
    vocabulary = train_bpe(captions, 300)
    assert (vocabulary.tokens, vocabulary.merges) == slow_bpe(captions, 300)
    assert len(set(vocabulary.tokens)) == len(vocabulary)


@pytest.mark.parametrize("tracked", [2, 6, 40])
@pytest.mark.parametrize("seed", range(6))
def test_rare_pairs_are_counted_anew_when_their_turn_comes(tracked, seed, monkeypatch):
    rng = random.Random(seed)
    captions = ["".join(rng.choices("abcd", [4, 3, 2, 1], k=rng.randint(2, 30))) for _ in range(30)]
    whole, counted = training._PairTable, []

    class Table(whole):
        def __init__(self, words, _):
            super().__init__(words, tracked)

        def _count_all(self):
            counted.append(len(self.symbols))
            super()._count_all()

    monkeypatch.setattr(training, "_PairTable", Table)
    vocabulary = train_bpe(captions, 200)
    assert (vocabulary.tokens, vocabulary.merges) == slow_bpe(captions, 200)
    assert len(counted) > 1 or tracked == 40


def test_words_are_the_same_whatever_stands_beside_them():
    """What stands between spaces is cut once; other white space, marks and case are the pipeline's."""
    captions = [
        "Σας ΣΑΣ don't",
        "a\u0301 \u0301b e\u00a0f",
        "don't  a\u0301\tx",
        " 3,4 ",
        "don't",
        "İstanbul don't,don't",
    ]
    split, normalise = training.pre_tokenizer().pre_tokenize_str, training.normalizer().normalize_str
    expected = Counter(word for caption in captions for word, _ in split(normalise(caption)))
    assert training._word_counts(captions) == expected


def test_limit_counts_specials_and_alphabet():
    captions = ["abc abd", "abc"]
    alphabet = ["a", "b", "c</w>", "d</w>"]
    assert train_bpe(captions, 6).tokens == [BOS_TOKEN, EOS_TOKEN, *alphabet]
    assert train_bpe(captions, 7).tokens == [BOS_TOKEN, EOS_TOKEN, *alphabet, "ab"]
    everything = train_bpe(captions, 100)
    assert everything.tokens[6:] == ["ab", "abc</w>", "abd</w>"]
    assert everything.merges == [("a", "b"), ("ab", "c</w>"), ("ab", "d</w>")]


def test_of_equally_frequent_pairs_the_lexicographically_smaller_one_is_first():
    assert train_bpe(["zb ya xa yb"], 100).merges == [("x", "a</w>"), ("y", "a</w>"), ("y", "b</w>"), ("z", "b</w>")]


def test_overlapping_occurrences_are_joined_from_the_left():
    vocabulary = train_bpe(["aaaax aaax"], 5)
    assert vocabulary.merges == [("a", "a")]
    assert ClipTokenizer(vocabulary).tokens("aaax") == ["aa", "a", "x</w>"]


def test_words_follow_clip_s_pipeline():
    """NFC, lower case, contractions, single digits; bytes in printable form."""
    tokens = train_bpe(["A  dog's 42 E\u0301le\u0300ve!", "a\tDOG's"], 1000).tokens
    assert {"a</w>", "dog</w>", "'s</w>", "4</w>", "2</w>", "Ã©lÃ¨ve</w>", "!</w>"} <= set(tokens)
    assert not any(token.isupper() and token.isascii() for token in tokens) and "42</w>" not in tokens


def test_no_caption_gives_the_specials_only():
    vocabulary = train_bpe([])
    assert (vocabulary.tokens, vocabulary.merges) == ([BOS_TOKEN, EOS_TOKEN], [])


PROGRAM = """
import sys
from mlvl_fairseq.data.text import train_bpe
train_bpe(open(sys.argv[1], encoding="utf-8").read().splitlines(), 300).save(sys.argv[2])
"""


def test_files_depend_on_neither_hash_seed_nor_order(run_alone, root, tmp_path):
    rng = random.Random(0)
    lexicon = ["".join(rng.choices("abcdefghijklmnoprstäöüß", k=rng.randint(2, 9))) for _ in range(60)]
    captions = [" ".join(rng.choices(lexicon, k=8)) for _ in range(100)]
    files = []
    for seed in ("1", "2"):
        rng.shuffle(captions)
        corpus = tmp_path / f"corpus{seed}"
        corpus.write_text("\n".join(captions), encoding="utf-8")
        environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": str(root)}
        ended = run_alone("python", "-c", PROGRAM, corpus, tmp_path / seed, env=environment)
        assert ended.returncode == 0, ended.stderr[-2000:]
        files.append([(tmp_path / seed / name).read_bytes() for name in ("vocab.json", "merges.txt")])
    assert files[0] == files[1] and len(files[0][1].splitlines()) > 200
