"""Deterministic BPE training: the same captions always give the same merges, on any machine.

The `tokenizers` library trains faster, but its ids and ties follow the order of a hash map and differ from run to run.
"""

import heapq
from collections import Counter, defaultdict
from typing import Dict, Iterable, Iterator, List, Optional, Set, Tuple

from tqdm import tqdm

from mlvl_fairseq.data.text.clip_bpe import BOS_TOKEN, END_OF_WORD, EOS_TOKEN, Vocabulary, normalizer, pre_tokenizer

Pair = Tuple[str, str]
# A word of more byte symbols than any writing has is learned from in pieces: joining a pair goes through whole words.
LONGEST_WORD, PIECE = 4096, 512


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
    words = [(list(symbols), count) for symbols, count in _word_counts(captions)]
    alphabet = sorted({symbol for symbols, _ in words for symbol in symbols})
    initial = [BOS_TOKEN, EOS_TOKEN, *alphabet]
    merges: List[Pair] = []
    pairs = _PairTable(words)
    with tqdm(total=max(vocab_size - len(initial), 0), desc="BPE merges", unit="", disable=not progress) as bar:
        while len(initial) + len(merges) < vocab_size and (pair := pairs.most_frequent()):
            merges.append(pair)
            pairs.merge(pair)
            bar.update()
        bar.total = bar.n  # there may be fewer pairs than entries
        bar.refresh()
    return Vocabulary(initial + [left + right for left, right in merges], merges)


def _word_counts(captions: Iterable[str]) -> List[Tuple[Tuple[str, ...], int]]:
    """Words as tuples of byte symbols, the last one marked as the word's end, with their frequencies."""
    normalise, split = normalizer().normalize_str, pre_tokenizer().pre_tokenize_str
    counts = Counter(word for caption in captions for word, _ in split(normalise(caption)))
    words = (((*word[:-1], word[-1] + END_OF_WORD), count) for word, count in sorted(counts.items()))
    return [(piece, count) for word, count in words for piece in _pieces(word)]


def _pieces(word: Tuple[str, ...]) -> List[Tuple[str, ...]]:
    if len(word) <= LONGEST_WORD:
        return [word]
    return [word[start : start + PIECE] for start in range(0, len(word), PIECE)]


class _PairTable:
    """Frequencies of adjacent symbol pairs, kept up to date merge by merge."""

    def __init__(self, words: List[Tuple[List[str], int]]):
        self.words = words
        self.counts: Dict[Pair, int] = defaultdict(int)
        self.where: Dict[Pair, Set[int]] = defaultdict(set)  # words that hold, or once held, a pair
        for index, (symbols, count) in enumerate(words):
            for pair in zip(symbols, symbols[1:]):
                self.counts[pair] += count
                self.where[pair].add(index)
        self.heap = [(-count, pair) for pair, count in self.counts.items()]
        heapq.heapify(self.heap)

    def most_frequent(self) -> Optional[Pair]:
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
        """Join a pair in all words. Only the pairs at both sides of each place change: a word may be a whole sentence
        (of a language that writes no spaces), so that counting all its pairs anew would take most of the time.
        """
        left, right = pair
        joined = left + right
        changed: Set[Pair] = set()
        for index in self.where.pop(pair):
            symbols, count = self.words[index]
            for place in _join(symbols, left, right, joined):
                neighbours = []
                if place > 0:
                    neighbours.append((symbols[place - 1], joined))
                    self.counts[symbols[place - 1], left] -= count
                if place + 1 < len(symbols):
                    neighbours.append((joined, symbols[place + 1]))
                    self.counts[right, symbols[place + 1]] -= count
                for new in neighbours:
                    self.counts[new] += count
                    self.where[new].add(index)
                changed.update(neighbours)
        for new in changed:
            heapq.heappush(self.heap, (-self.counts[new], new))
        self.counts.pop(pair)


def _join(symbols: List[str], left: str, right: str, joined: str) -> Iterator[int]:
    """Join a pair in place, from left to right; yields the position of each joined symbol as soon as it is there."""
    place = -1
    while True:
        try:
            place = symbols.index(left, place + 1)
        except ValueError:
            return
        if symbols[place + 1 : place + 2] == [right]:
            symbols[place : place + 2] = [joined]
            yield place
