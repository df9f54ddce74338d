"""What a frozen text encoder makes of captions, one row a token, kept in one memory-mapped file a language."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, ClassVar, List, Sequence

import numpy as np
from tqdm import tqdm

from mlvl_fairseq.data.corpus.vocabularies import CorpusVocabulary
from mlvl_fairseq.data.feature_manifest import feature_manifest_path
from mlvl_fairseq.data.features import FeatureWriter, is_finished, open_features
from mlvl_fairseq.data.token_files import open_tokens
from mlvl_fairseq.errors import UserError

CHUNK = 256  # captions encoded at a time; fixed, so that an interrupted extraction goes on with the same batches


class TokenStates:
    """Caption -> its states, [T, width] float16 or float32, a view of the file.

    Args:
        stem: of the file that :func:`extract_token_states` wrote.
        lengths: int [captions], tokens of each caption, special ones included.
        names: of the captions. fingerprint: of what encoded them.

    Raises:
        DataError: the file is missing, unfinished, damaged, or of other captions or another encoder.
    """

    def __init__(self, stem, lengths: np.ndarray, names: Sequence[str], fingerprint: str):
        self._ends = np.cumsum(lengths, dtype=np.int64)
        self._array = open_features(
            stem, expect_rows=int(self._ends[-1]), expect_fingerprint=fingerprint, expect_row_names=names
        )

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, caption: int) -> np.ndarray:
        start = self._ends[caption - 1] if caption else 0
        return self._array[start : self._ends[caption]]


def extract_token_states(
    encode: Callable[[Sequence[int]], List[np.ndarray]],
    stem,
    lengths: np.ndarray,
    names: Sequence[str],
    width: int,
    model: str,
    fingerprint: str,
    dtype: str = "float16",
    title: str = "states",
) -> None:
    """Write the states of all captions; an interrupted extraction goes on where it was.

    Args:
        encode: numbers of captions -> their states, [T, width] each.
        stem, lengths, names, fingerprint: see :class:`TokenStates`.
        width: dimension of a state. model: name of the encoder, for people. dtype: of the file.

    Raises:
        DataError: there are states of other captions or of another encoder.
    """
    ends = np.cumsum(lengths, dtype=np.int64)
    with FeatureWriter(stem, names, width, model, fingerprint, dtype, rows=int(ends[-1])) as writer:
        first = int(np.searchsorted(ends, writer.rows_done, side="right"))
        for start in tqdm(range(first, len(ends), CHUNK), desc=title, unit=" batches"):
            writer.write(np.concatenate(encode(range(start, min(start + CHUNK, len(ends))))))


@dataclass(frozen=True)
class CorpusStates:
    """What one text encoder makes of binarized captions, in ``features/SPLIT.LANG.states-<key>``: a state a token.

    Args:
        vocabulary: what the captions of a corpus are cut with.
        max_length: longest caption, BOS and EOS included; longer ones are cut.
        encoder: fingerprint of the text encoder.
    """

    vocabulary: CorpusVocabulary
    max_length: int
    encoder: str

    kind: ClassVar[str] = "states"
    dtype: ClassVar[str] = "float16"

    @property
    def key(self) -> str:
        """SHA-256 (hex) of all that the states depend on beside the captions."""
        return hashlib.sha256(f"{self.encoder} {self.vocabulary.name} {self.max_length}".encode()).hexdigest()

    def stem(self, split: str, lang: str) -> Path:
        return self.vocabulary.corpus.feature_stem(split, f"{lang}.{self.kind}-{self.key[:12]}")

    def open(self, split: str, lang: str) -> TokenStates:
        """Stored states of a language's captions.

        Raises:
            UserError: there are none of this encoder, vocabulary and length. DataError: they are damaged, unfinished.
        """
        stem = self.stem(split, lang)
        if not feature_manifest_path(stem).exists():
            raise UserError(
                f"no {self.kind} of the {split} captions in '{lang}' by this text encoder: run "
                f"{self.vocabulary.how_to_prepare([lang])} --mte PATH --max-length {self.max_length}"
            )
        return TokenStates(stem, self._lengths(split, lang), self.vocabulary.corpus.captions(split, lang), self.key)

    def write(
        self, split: str, lang: str, encode: Callable[[List[List[int]]], List[np.ndarray]], width: int, model: str
    ) -> None:
        """Encode the captions of a language; an interrupted extraction goes on where it was.

        Args:
            encode: lists of ids as batches have them (BOS first, EOS last where texts end with it) -> states [T, width]
                of each.
            width: dimension of a state. model: name of the encoder, for people.
        """
        tokens = self._tokens(split, lang)
        extract_token_states(
            lambda captions: encode([self._ids(tokens[row].tolist()) for row in captions]),
            self.stem(split, lang),
            self._lengths(split, lang),
            self.vocabulary.corpus.captions(split, lang),
            width,
            model,
            self.key,
            self.dtype,
            title=f"{lang} {split} {self.kind}",
        )

    def _tokens(self, split: str, lang: str):
        return open_tokens(self.vocabulary.binarized(lang) / split)

    def _ids(self, stored: List[int]) -> List[int]:
        """What a batch has of a caption; files hold EOS, and not BOS."""
        tokenizer = self.vocabulary.tokenizer
        end = [tokenizer.eos] if tokenizer.ends_texts else []
        return [tokenizer.bos, *stored[:-1][: self.max_length - 1 - len(end)], *end]

    def _lengths(self, split: str, lang: str) -> np.ndarray:
        """int [captions]: tokens of each, BOS included, and EOS where texts end with it."""
        tokens = self._tokens(split, lang)  # by name: fairseq unmaps the sizes together with it
        return np.minimum(tokens.sizes + self.vocabulary.tokenizer.ends_texts, self.max_length)


class CorpusVectors(CorpusStates):
    """As :class:`CorpusStates`, a vector a caption: ``features/SPLIT.LANG.vectors-<key>``, float32."""

    kind = "vectors"
    dtype = "float32"

    @property
    def key(self) -> str:
        parts = (self.encoder, self.vocabulary.name, self.vocabulary.tokenizer.fingerprint, self.max_length)
        return hashlib.sha256(" ".join(map(str, parts)).encode()).hexdigest()

    def is_finished(self, split: str, lang: str) -> bool:
        """Whether there is nothing left to compute."""
        return is_finished(self.stem(split, lang), self.vocabulary.corpus.captions(split, lang))

    def open(self, split: str, lang: str) -> np.ndarray:
        """float32 [captions, width], memory-mapped. Raises DataError: they are damaged, unfinished, or of others."""
        names = self.vocabulary.corpus.captions(split, lang)
        return open_features(self.stem(split, lang), expect_row_names=names, expect_fingerprint=self.key)

    def _lengths(self, split: str, lang: str) -> np.ndarray:
        return np.ones(len(self._tokens(split, lang)), np.int64)
