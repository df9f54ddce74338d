"""What every tokenizer offers: a kind of text encoder brings its own, and nothing else asks which one it is."""

from abc import ABC, abstractmethod
from typing import List, Sequence


class Tokenizer(ABC):
    """Text to ids and back.

    Attributes:
        bos, eos, pad: ids of the begin and end of a sentence, and of what fills a batch.
    """

    bos: int
    eos: int
    pad: int

    @property
    @abstractmethod
    def name(self) -> str:
        """How captions become ids, in a word: in signatures, and as the folder of binarized captions."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 (64 hexadecimal digits): equal ones give equal ids."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of ids."""

    @abstractmethod
    def encode_batch(self, texts: Sequence[str]) -> List[List[int]]:
        """Ids of each text, without BOS and EOS, not truncated."""

    @abstractmethod
    def tokens(self, text: str) -> List[str]:
        """The strings behind the ids of a text: what a line of a ``fairseq-preprocess`` input holds."""

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """The text behind ids."""

    def tokenize(self, texts: Sequence[str], max_length: int) -> List[List[int]]:
        """Ids with BOS and EOS; longer texts are cut to `max_length` ids and keep their EOS."""
        return [[self.bos, *ids[: max_length - 2], self.eos] for ids in self.encode_batch(texts)]
