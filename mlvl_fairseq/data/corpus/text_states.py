"""States of a frozen text encoder for a corpus's captions, in ``features/SPLIT.LANG.states-<key>``."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, List, Sequence

import numpy as np

from mlvl_fairseq.data.corpus.binarize import binarized_folder
from mlvl_fairseq.data.corpus.corpus import Corpus
from mlvl_fairseq.data.corpus.tokens import open_tokens
from mlvl_fairseq.data.features import manifest_path
from mlvl_fairseq.data.token_states import TokenStates, extract_token_states
from mlvl_fairseq.errors import UserError


@dataclass(frozen=True)
class CorpusStates:
    """What one text encoder makes of binarized captions.

    Args:
        corpus: whose captions.
        vocabulary: what they are cut with, as :func:`binarized_folder` takes it.
        max_length: longest caption, BOS and EOS included; longer ones are cut.
        encoder: fingerprint of the text encoder.
    """

    corpus: Corpus
    vocabulary: Sequence[str]
    max_length: int
    encoder: str

    @property
    def key(self) -> str:
        """SHA-256 (hex) of all that the states depend on beside the captions."""
        return hashlib.sha256(f"{self.encoder} {'+'.join(self.vocabulary)} {self.max_length}".encode()).hexdigest()

    def stem(self, split: str, lang: str) -> Path:
        return self.corpus.feature_stem(split, f"{lang}.states-{self.key[:12]}")

    def open(self, split: str, lang: str) -> TokenStates:
        """Stored states of a language's captions.

        Raises:
            UserError: there are none of this encoder, vocabulary and length. DataError: they are damaged, unfinished.
        """
        stem = self.stem(split, lang)
        if not manifest_path(stem).exists():
            raise UserError(
                f"no states of the {split} captions in '{lang}' by this text encoder: run mlvl-prepare "
                f"{self.corpus.folder} --sentencepiece FOLDER --mte PATH --max-length {self.max_length}"
            )
        return TokenStates(stem, self._lengths(split, lang), self.corpus.captions(split, lang), self.key)

    def write(
        self, split: str, lang: str, encode: Callable[[List[List[int]]], List[np.ndarray]], width: int, model: str
    ) -> None:
        """Encode the captions of a language; an interrupted extraction goes on where it was.

        Args:
            encode: lists of ids, final EOS included, BOS not -> states [T, width] of each, with BOS and EOS.
            width: dimension of a state. model: name of the encoder, for people.
        """
        tokens = self._tokens(split, lang)
        extract_token_states(
            lambda captions: encode([tokens[row].tolist() for row in captions]),
            self.stem(split, lang),
            self._lengths(split, lang),
            self.corpus.captions(split, lang),
            width,
            model,
            self.key,
            title=f"{lang} {split} states",
        )

    def _tokens(self, split: str, lang: str):
        return open_tokens(binarized_folder(self.corpus, self.vocabulary, lang) / split)

    def _lengths(self, split: str, lang: str) -> np.ndarray:
        """int [captions]: tokens of each, BOS and EOS included."""
        tokens = self._tokens(split, lang)  # by name: fairseq unmaps the sizes together with it
        return np.minimum(tokens.sizes + 1, self.max_length)
