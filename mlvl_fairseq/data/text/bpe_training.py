"""Deterministic BPE training: the same captions always give the same merges, on any machine.

The `tokenizers` library trains faster, but its ids and ties follow the order of a hash map and differ from run to run.
"""

import heapq
from collections import Counter
from itertools import groupby
from operator import itemgetter
from typing import Dict, Iterable, List, Optional, Tuple

import numpy as np
from tqdm import tqdm

from mlvl_fairseq.data.text.clip_bpe import BOS_TOKEN, END_OF_WORD, EOS_TOKEN, Vocabulary, normalizer, pre_tokenizer

Pair = Tuple[int, int]
# A word of more byte symbols than any writing has is learned from in pieces: tokens of thousands of bytes help nobody.
LONGEST_WORD, PIECE = 4096, 512
_TOGETHER = 256  # parts of captions that are cut into words at once
_TRACKED = 1 << 17  # pairs whose frequency is kept up to date; more than a vocabulary has entries
_END, _CUT = "\n", "\t"  # behind a word, and between pieces of one: no byte's symbol
_MARK = 1 << 12  # added to the code of a word's last symbol


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
    pairs = _PairTable(_word_counts(captions), max(_TRACKED, 4 * vocab_size))
    initial = [BOS_TOKEN, EOS_TOKEN, *sorted(pairs.symbols[1:])]
    merges: List[Tuple[str, str]] = []
    with tqdm(total=max(vocab_size - len(initial), 0), desc="BPE merges", unit="", disable=not progress) as bar:
        while len(initial) + len(merges) < vocab_size and (pair := pairs.most_frequent()):
            merges.append((pairs.symbols[pair[0]], pairs.symbols[pair[1]]))
            pairs.merge(*pair)
            bar.update()
        bar.total = bar.n  # there may be fewer pairs than entries
        bar.refresh()
    return Vocabulary(initial + [left + right for left, right in merges], merges)


def _word_counts(captions: Iterable[str]) -> Dict[str, int]:
    """Words in byte symbols, with their frequencies.

    No word goes across a space, and nothing that is done to a text looks across one: what stands between spaces is cut
    once, however often it occurs.
    """
    parts = Counter(part for caption in captions for part in caption.split(" "))
    normalise, split = normalizer().normalize_str, pre_tokenizer().pre_tokenize_str
    counts: Counter[str] = Counter()
    for count, group in groupby(sorted(parts, key=parts.__getitem__), parts.__getitem__):
        equally_frequent = list(group)
        for start in range(0, len(equally_frequent), _TOGETHER):
            text = " ".join(equally_frequent[start : start + _TOGETHER])
            words = Counter(map(itemgetter(0), split(normalise(text))))
            counts.update({word: count * times for word, times in words.items()} if count > 1 else words)
    return counts


class _PairTable:
    """Adjacent pairs of symbols in all words, and their frequencies.

    All words lie behind one another in one array. Joined symbols stay where they are: a symbol is known by its number
    at its first and at its last place. So a merge is a few operations on arrays, however often the pair occurs (a word
    may be a whole sentence, of a language that writes no spaces, and then nearly every word occurs once).

    Frequencies are kept for the most frequent pairs only: rarer ones than :attr:`least` are counted anew when their
    turn comes.

    Args:
        words: in byte symbols -> frequency.
        tracked: pairs to keep the frequencies of.

    Attributes:
        symbols: their texts by number; 0 is what lies between words.
    """

    def __init__(self, words: Dict[str, int], tracked: int):
        self._tracked, self.least = tracked, 1
        self.symbols: List[str] = [""]
        numbers = self._numbered(list(words))
        self._left, self._right = numbers, numbers.copy()  # symbol that begins here, or 0; that ends here
        lengths = np.diff(np.flatnonzero(numbers == 0))
        of_pieces = np.repeat(np.fromiter(words.values(), np.int32), [_pieces_of(word) for word in words])
        self._weights = np.append(np.int32(0), np.repeat(of_pieces, lengths))
        order = np.argsort(numbers.astype(np.uint16), kind="stable").astype(np.int32)
        ends = np.cumsum(np.bincount(numbers, minlength=len(self.symbols)))
        self._places = [np.empty(0, np.int32), *np.split(order[ends[0] :], ends[1:-1] - ends[0])]  # may have gone since
        self._sizes = [1] * len(self.symbols)
        self._numbers = {symbol: number for number, symbol in enumerate(self.symbols)}
        self._count_all()

    def _numbered(self, words: List[str]) -> np.ndarray:
        """int32: the number of every symbol of all words, 0 before, between and behind them; names the symbols."""
        text = "".join([_END, *(f"{_in_pieces(word)}{_END}" for word in words)])
        codes = np.frombuffer(text.encode("utf-32-le"), np.uint32).astype(np.int32)
        codes[:-1][(codes[1:] == ord(_END)) & (codes[:-1] != ord(_END))] += _MARK
        between = np.array([ord(_END), ord(_CUT)])
        found = np.setdiff1d(np.flatnonzero(np.bincount(codes)), between)
        self.symbols += [chr(code % _MARK) + (END_OF_WORD if code >= _MARK else "") for code in found.tolist()]
        number_of = np.zeros(2 * _MARK, np.int32)
        number_of[found] = np.arange(1, len(found) + 1)
        return number_of[codes]

    def most_frequent(self) -> Optional[Pair]:
        """The next pair to merge, or None. Heap entries that no longer hold are replaced by the present count."""
        while self._heap or self.least > 1:
            if not self._heap:
                self._count_all()
                continue
            negative, _, _, pair = heapq.heappop(self._heap)
            count = self._counts.get(pair, 0)
            if count == -negative:
                return pair
            if count >= self.least:
                self._push(pair, count)
        return None

    def merge(self, left: int, right: int) -> None:
        """Join a pair in all words."""
        starts, size = self._starts(left, right), self._sizes[left] + self._sizes[right]
        ends = starts + size
        weights, before, behind = self._weights[starts], self._right[starts - 1], self._left[ends]
        last = np.append(ends[:-1] != starts[1:], True)[: len(starts)]  # no other one follows at once
        self._take(left, _sums(before, weights), is_left=False)
        self._take(right, _sums(behind[last], weights[last]), is_left=True)
        self._counts.pop((left, right))
        joined = self._number_of(self.symbols[left] + self.symbols[right], size)
        self._left[starts], self._left[starts + self._sizes[left]], self._right[ends - 1] = joined, 0, joined
        if len(self._places[joined]):  # made before, of other parts
            starts = np.union1d(starts, self._places[joined]).astype(np.int32)
            starts = starts[self._left[starts] == joined]
        self._places[joined] = starts
        weights, before, behind = self._weights[starts], self._right[starts - 1], self._left[starts + size]
        for symbol, count in _sums(before, weights).items():
            self._add((symbol, joined), count)
        for symbol, count in _sums(behind, weights).items():
            self._add((joined, symbol), count)
        if len(self._counts) > self._limit:
            self._forget_rare()

    def _starts(self, left: int, right: int) -> np.ndarray:
        """int32, ascending: where the pair stands; of occurrences that overlap, every other one from the left."""
        size = self._sizes[left]
        rarer = min(left, right, key=lambda symbol: len(self._places[symbol]))
        places = self._places[rarer] = self._places[rarer][self._left[self._places[rarer]] == rarer]
        if rarer == left:
            starts = places[self._left[places + size] == right]
        else:
            starts = places[self._right[places - 1] == left] - np.int32(size)
        if left != right or len(starts) < 2:
            return starts
        numbers = np.arange(len(starts))
        first = np.maximum.accumulate(np.where(np.append(True, np.diff(starts) != size), numbers, 0))
        return starts[(numbers - first) % 2 == 0]

    def _number_of(self, symbol: str, size: int) -> int:
        number = self._numbers.setdefault(symbol, len(self.symbols))
        if number == len(self.symbols):
            self.symbols.append(symbol)
            self._sizes.append(size)
            self._places.append(np.empty(0, np.int32))
        return number

    def _take(self, symbol: int, others: Dict[int, int], is_left: bool) -> None:
        """A symbol stands beside others that much less often."""
        counts = self._counts
        for other, count in others.items():
            pair = (symbol, other) if is_left else (other, symbol)
            if pair in counts:
                counts[pair] -= count

    def _add(self, pair: Pair, count: int) -> None:
        """A pair that nobody had before, and its frequency, which can only become less. (Two joined symbols in a row
        are counted from both sides, which say the same.)"""
        if count >= self.least and pair[0] and pair[1]:
            self._counts[pair] = count
            self._push(pair, count)

    def _push(self, pair: Pair, count: int) -> None:
        heapq.heappush(self._heap, (-count, self.symbols[pair[0]], self.symbols[pair[1]], pair))

    def _count_all(self) -> None:
        """The frequencies of all pairs, of which the most frequent ones are kept."""
        starts, base = np.flatnonzero(self._left).astype(np.int32), len(self.symbols)
        left = self._left[starts]
        right = self._left[starts + np.array(self._sizes, np.int32)[left]]
        pairs = np.flatnonzero(right)
        codes, counts = _grouped(left[pairs] * np.int64(base) + right[pairs], self._weights[starts[pairs]])
        self.least = self._least_of(counts)
        kept = counts >= self.least
        self._keep({divmod(code, base): count for code, count in zip(codes[kept].tolist(), counts[kept].tolist())})

    def _forget_rare(self) -> None:
        self.least = self._least_of(np.fromiter(self._counts.values(), np.int64))
        self._keep({pair: count for pair, count in self._counts.items() if count >= self.least})

    def _least_of(self, counts: np.ndarray) -> int:
        """What half of the pairs that may be tracked have at least, of these frequencies."""
        half = self._tracked // 2
        return max(1, int(np.partition(counts, -half)[-half])) if len(counts) > half else 1

    def _keep(self, counts: Dict[Pair, int]) -> None:
        self._counts, self._limit = counts, max(self._tracked, 2 * len(counts))  # many may be equally frequent
        self._heap = [(-n, self.symbols[pair[0]], self.symbols[pair[1]], pair) for pair, n in counts.items()]
        heapq.heapify(self._heap)


def _sums(keys: np.ndarray, weights: np.ndarray) -> Dict[int, int]:
    """The sum of the weights of each key."""
    if len(keys) >= 64:
        keys, weights = _grouped(keys, weights)
        return dict(zip(keys.tolist(), weights.tolist()))
    sums: Dict[int, int] = {}  # faster than a sort of so few
    for key, weight in zip(keys.tolist(), weights.tolist()):
        sums[key] = sums.get(key, 0) + weight
    return sums


def _grouped(keys: np.ndarray, weights: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """The distinct keys, ascending, and the sum of the weights of each."""
    if len(keys) > _TRACKED and keys.max() < len(keys):
        sums = np.bincount(keys, weights)  # in double precision: exact below 2^53
        found = np.flatnonzero(sums)
        return found, sums[found].astype(np.int64)
    order = np.argsort(keys)
    ordered = keys[order]
    firsts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: len(keys)])
    return ordered[firsts], np.add.reduceat(weights[order], firsts, dtype=np.int64) if len(keys) else weights


def _in_pieces(word: str) -> str:
    if len(word) <= LONGEST_WORD:
        return word
    return _CUT.join(word[start : start + PIECE] for start in range(0, len(word), PIECE))


def _pieces_of(word: str) -> int:
    return 1 if len(word) <= LONGEST_WORD else -(-len(word) // PIECE)
