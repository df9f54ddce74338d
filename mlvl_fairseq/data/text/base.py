"""What every tokenizer offers. A kind of tokenizer is one file here; nothing else asks which one it is."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, ClassVar, Dict, List, Mapping, Optional, Sequence, Tuple, Type

import numpy as np

from mlvl_fairseq.data.text.cleaning import CLEANINGS, NO_CLEANING
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.registry import import_modules, registering

if TYPE_CHECKING:  # fairseq takes seconds to import, and what cuts text does without it
    from fairseq.data import Dictionary


class Tokenizer(ABC):
    """Text to ids and back.

    Attributes:
        option: name of its kind, and of the option that takes its folder. help: of that option; both are given to
            :func:`register_tokenizer`.
        comes_with_a_model: whether its ids are used as they come. If not, corpora have vocabularies of their own, which
            grow by languages, and ``mlvl-prepare`` takes no folder of this kind.
        bos, eos, pad: ids of the begin and end of a sentence, and of what fills a batch.
        ends_texts: whether EOS stands behind what a model reads. Files of ids end their captions with it in any case.
        folder: where its files are; None: it needs none.
        max_words: what texts are cut to once they are cleaned; 0: they are not.
    """

    option: ClassVar[str]
    help: ClassVar[str]
    comes_with_a_model: ClassVar[bool] = True

    bos: int
    eos: int
    pad: int
    ends_texts: bool = True
    folder: Optional[Path] = None
    max_words: int = 0

    @classmethod
    @abstractmethod
    def detect(cls, folder: Path) -> bool:
        """Whether a folder holds a tokenizer of this kind; its files are not opened."""

    @classmethod
    @abstractmethod
    def load(cls, folder) -> "Tokenizer":
        """Read a folder.

        Raises:
            DataError: a file is missing or damaged, or they do not belong together.
        """

    @classmethod
    @abstractmethod
    def load_dictionary(cls, path) -> "Dictionary":
        """A ``dict.txt`` of this kind, for ``fairseq-preprocess --task ...``.

        Raises:
            DataError: it is missing or damaged, or of another kind.
        """

    @property
    @abstractmethod
    def name(self) -> str:
        """How captions become ids, in a word: in signatures, and where it comes with a model as the folder of
        binarized captions."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 (64 hexadecimal digits): equal ones give equal ids."""

    def continues(self, other: "Tokenizer") -> bool:
        """Whether every id of another one stands for the same here, where there may be more; what is done to texts
        before they are cut may differ."""
        return self.fingerprint == other.fingerprint

    @property
    @abstractmethod
    def dictionary(self) -> "Dictionary":
        """The same ids as fairseq has them."""

    @property
    def own_languages(self) -> Sequence[str]:
        """The languages whose texts are cut in a way of their own; empty: the language of a text does not matter."""
        return ()

    @abstractmethod
    def write_dictionary(self, path) -> None:
        """Write the ``dict.txt`` that :meth:`load_dictionary` reads."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of ids."""

    @abstractmethod
    def encode_batch(self, texts: Sequence[str]) -> List[List[int]]:
        """Ids of each text, without BOS and EOS, not truncated."""

    def encode_joined(self, texts: Sequence[str]) -> Tuple[np.ndarray, np.ndarray]:
        """What :meth:`encode_batch` gives as arrays: int64, the ids of all texts behind one another, and [texts], how
        many each has."""
        return joined_ids(self.encode_batch(texts))

    @abstractmethod
    def tokens(self, text: str) -> List[str]:
        """The strings behind the ids of a text: what a line of a ``fairseq-preprocess`` input holds."""

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """The text behind ids."""

    @abstractmethod
    def checkpoint_state(self) -> Dict:
        """What a checkpoint's task state holds of it: plain values, enough to make it again or to know it again."""

    @classmethod
    def from_state(cls, state: Mapping[str, Any], source=None, folder=None) -> Optional["Tokenizer"]:
        """The tokenizer behind what :meth:`checkpoint_state` put into a checkpoint's task state.

        Args:
            source: the checkpoint, for messages. folder: where the tokenizer's files were in training, or are now.

        Returns:
            None: the state is of another kind, or this kind is not made again from states.

        Raises:
            DataError: the state is damaged. UserError: files are needed that are not there, or are others.
        """
        return None

    def of_language(self, lang: Optional[str]) -> "Tokenizer":
        """What cuts the captions of a language: this, unless each language keeps the cuts it was learned with."""
        return self

    def prepared(self, cleaning: str = NO_CLEANING, ends_texts: bool = True) -> "Tokenizer":
        """This tokenizer with other preparations of a text.

        Args:
            cleaning: what is done to it before it is cut, see :mod:`mlvl_fairseq.data.text.cleaning`.
            ends_texts: whether EOS stands behind it.

        Raises:
            UserError: there is no such cleaning, or this kind of tokenizer takes texts as they are.
        """
        TextOptions.refuse(TextOptions(cleaning, not ends_texts), f"with a tokenizer of the kind '{self.option}'")
        return self

    def of_words(self, max_words: int) -> "Tokenizer":
        """This tokenizer of texts that are cut to so many words once they are cleaned; 0: they are not.

        Raises:
            UserError: this kind of tokenizer takes texts as they are.
        """
        if max_words:
            raise UserError(f"--max-words {max_words} does nothing with a tokenizer of the kind '{self.option}'")
        return self

    def tokenize(self, texts: Sequence[str], max_length: int) -> List[List[int]]:
        """Ids with BOS and, if :attr:`ends_texts`, EOS; longer texts are cut to `max_length` ids and keep their EOS."""
        end = [self.eos] if self.ends_texts else []
        inner = max_length - 1 - len(end)
        return [[self.bos, *ids[:inner], *end] for ids in self.encode_batch(texts)]


def joined_ids(ids: Sequence[Sequence[int]]) -> Tuple[np.ndarray, np.ndarray]:
    """Lists of ids as :meth:`Tokenizer.encode_joined` gives them."""
    return np.fromiter(chain.from_iterable(ids), np.int64), np.fromiter(map(len, ids), np.int64)


@dataclass
class TextOptions:
    """Options of every command that cuts captions with a tokenizer that came with a model."""

    cleaning: str = field(
        default=NO_CLEANING,
        metadata={
            "help": "what is done to captions before they are cut into tokens: none, or lilt (lower case, no ASCII "
            "punctuation, the first 30 words), as LilT was published",
            "choices": lambda: sorted(CLEANINGS),
        },
    )
    no_end_token: bool = field(
        default=False,
        metadata={"help": "captions begin with [CLS] and do not end with [SEP], as LilT was published"},
    )

    @staticmethod
    def prepare(options: "TextOptions", tokenizer: Tokenizer) -> Tokenizer:
        """The tokenizer as options say; they can be a task's. Raises UserError: see :meth:`Tokenizer.prepared`."""
        return tokenizer.prepared(str(options.cleaning), not options.no_end_token)

    @staticmethod
    def refuse(options: "TextOptions", reason: str) -> None:
        """Raises UserError: an option is given where, for this reason, it would do nothing."""
        if options.no_end_token or options.cleaning != NO_CLEANING:
            option = "--no-end-token" if options.no_end_token else f"--cleaning {options.cleaning}"
            raise UserError(f"{option} does nothing {reason}")


TOKENIZERS: Dict[str, Type[Tokenizer]] = {}


def register_tokenizer(option: str, help: str) -> Callable[[Type[Tokenizer]], Type[Tokenizer]]:
    """Class decorator: make a kind of tokenizer known. ``mlvl-encode``, and ``mlvl-prepare`` where it comes with a
    model, take its folder as ``--OPTION DIR``."""
    return registering(TOKENIZERS, "a tokenizer", option, option=option, help=help)


def tokenizer_kinds() -> List[Type[Tokenizer]]:
    """All kinds by the names of their options: every module of this folder is imported."""
    import_modules(__package__)
    return [TOKENIZERS[option] for option in sorted(TOKENIZERS)]


def find_tokenizer(state: Mapping[str, Any], source, folder=None) -> Optional[Tokenizer]:
    """The tokenizer of a checkpoint, of whichever kind; None: it does not say how it cut captions. See
    :meth:`Tokenizer.from_state`."""
    found = (kind.from_state(state, source, folder) for kind in tokenizer_kinds())
    return next((tokenizer for tokenizer in found if tokenizer is not None), None)


def tokenizer_of_state(state: Mapping[str, Any], source, folder=None) -> Tokenizer:
    """:func:`find_tokenizer`.

    Raises:
        DataError: the checkpoint does not say how it cut captions.
    """
    tokenizer = find_tokenizer(state, source, folder)
    if tokenizer is None:
        raise DataError("does not say how captions were cut", source, field="task_state")
    return tokenizer


def load_tokenizer(folder) -> Tokenizer:
    """Read the tokenizer in a folder, of whichever kind.

    Raises:
        UserError: there is none. DataError: it is damaged.
    """
    kinds = tokenizer_kinds()
    for kind in kinds:
        if kind.detect(Path(folder)):
            return kind.load(folder)
    raise UserError(f"{folder} holds no tokenizer: " + "; ".join(f"--{kind.option}: {kind.help}" for kind in kinds))
