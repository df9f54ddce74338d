"""Deterministic BPE training: the same captions always give the same merges, on any machine.

The `tokenizers` library trains faster, but its ids and ties follow the order of a hash map and differ from run to run.
"""

import heapq
from collections import Counter, defaultdict
from typing import Dict, Iterable, List, Set, Tuple

from tqdm import tqdm

from mlvl_fairseq.data.tokenizer.text_pipeline import END_OF_WORD, normalizer, pre_tokenizer
from mlvl_fairseq.data.tokenizer.vocabulary import BOS_TOKEN, EOS_TOKEN, Vocabulary

Pair = Tuple[str, str]


def train_bpe(captions: Iterable[str], vocab_size: int = 10_000, progress: bool = False) -> Vocabulary:
    """Learn a byte-level BPE vocabulary of one language (Yang et al. 2024, section 3.2).

    Args:
        captions: text of the language's training split.
        vocab_size: largest number of entries, the two specials and the alphabet included.
        progress: show a progress bar.

    Returns:
        specials (ids 0 and 1), the alphabet in lexicographic order, then one entry a merge. The most frequent pair is
        merged first; of equally frequent pairs the lexicographically smaller one.
    """
    words = [[list(symbols), count] for symbols, count in _word_counts(captions)]
    alphabet = sorted({symbol for symbols, _ in words for symbol in symbols})
    tokens = dict.fromkeys([BOS_TOKEN, EOS_TOKEN, *alphabet])
    merges: List[Pair] = []
    pairs = _PairTable(words)
    with tqdm(total=max(vocab_size - len(tokens), 0), desc="BPE merges", unit="", disable=not progress) as bar:
        while len(tokens) < vocab_size and (pair := pairs.most_frequent()):
            merges.append(pair)
            before = len(tokens)
            tokens[pair[0] + pair[1]] = None
            pairs.merge(pair)
            bar.update(len(tokens) - before)
    return Vocabulary(list(tokens), merges)


def _word_counts(captions: Iterable[str]) -> List[Tuple[Tuple[str, ...], int]]:
    """Words as tuples of byte symbols, the last one marked as the word's end, with their frequencies."""
    normalise, split = normalizer().normalize_str, pre_tokenizer().pre_tokenize_str
    counts = Counter(word for caption in captions for word, _ in split(normalise(caption)))
    return [((*word[:-1], word[-1] + END_OF_WORD), count) for word, count in sorted(counts.items())]


class _PairTable:
    """Frequencies of adjacent symbol pairs, kept up to date merge by merge."""

    def __init__(self, words: List[list]):
        self.words = words
        self.counts: Dict[Pair, int] = defaultdict(int)
        self.where: Dict[Pair, Set[int]] = defaultdict(set)
        for index, (symbols, count) in enumerate(words):
            for pair in zip(symbols, symbols[1:]):
                self.counts[pair] += count
                self.where[pair].add(index)
        self.heap = [(-count, pair) for pair, count in self.counts.items()]
        heapq.heapify(self.heap)

    def most_frequent(self):
        """The next pair to merge, or None. Stale heap entries are replaced by the pair's present count."""
        while self.heap:
            negative, pair = heapq.heappop(self.heap)
            count = self.counts[pair]
            if count == -negative and count > 0:
                return pair
            if count > 0:
                heapq.heappush(self.heap, (-count, pair))
        return None

    def merge(self, pair: Pair) -> None:
        changed: Set[Pair] = set()
        for index in self.where.pop(pair):
            symbols, count = self.words[index]
            merged = _merge_pair(symbols, pair)
            for old in zip(symbols, symbols[1:]):
                self.counts[old] -= count
            for new in zip(merged, merged[1:]):
                self.counts[new] += count
                self.where[new].add(index)
                changed.add(new)
            self.words[index][0] = merged
        for new in changed:
            heapq.heappush(self.heap, (-self.counts[new], new))
        self.counts.pop(pair)


def _merge_pair(symbols: List[str], pair: Pair) -> List[str]:
    left, right = pair
    merged: List[str] = []
    i = 0
    while i < len(symbols):
        if symbols[i] == left and i + 1 < len(symbols) and symbols[i + 1] == right:
            merged.append(left + right)
            i += 2
        else:
            merged.append(symbols[i])
            i += 1
    return merged
