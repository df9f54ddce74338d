"""What the captions of a corpus are cut with: vocabularies that grow by languages, or a tokenizer of a model.

Every vocabulary is trained or merged once, saved, and only read afterwards: ids never change under a finished model.
"""

import logging
import shlex
from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, List, Sequence

from mlvl_fairseq.data.corpus.corpus import Corpus
from mlvl_fairseq.data.text import ClipTokenizer, Tokenizer, Vocabulary, clip_vocabulary, train_bpe
from mlvl_fairseq.errors import DataError, UserError

if TYPE_CHECKING:
    from fairseq.data import Dictionary

logger = logging.getLogger(__name__)

CLIP_VOCABULARY = "clip"
DICTIONARY_FILE = "dict.txt"
UNION_BPE_SIZE = 200_000  # Yang et al. 2024: the oracle vocabulary, which has seen all languages before the first


class CorpusVocabulary(ABC):
    """A way to cut the captions of a corpus, and the place of what it has cut.

    Attributes:
        corpus: whose captions.
    """

    def __init__(self, corpus: Corpus):
        self.corpus = corpus

    @property
    @abstractmethod
    def name(self) -> str:
        """Its folder below ``bin/``."""

    @property
    @abstractmethod
    def tokenizer(self) -> Tokenizer:
        """Made and saved on first use, if need be."""

    @abstractmethod
    def load_dictionary(self, langs: Sequence[str]) -> "Dictionary":
        """fairseq's dictionary with the same ids.

        Args:
            langs: whose captions are cut, to tell how to prepare them.

        Raises:
            UserError: the vocabulary has not been prepared. DataError: it is damaged.
        """

    @abstractmethod
    def how_to_prepare(self, langs: Sequence[str]) -> str:
        """The command that makes it, and the binarized captions of these languages, for messages."""

    @property
    def _prepare(self) -> str:
        """The beginning of such a command."""
        return f"mlvl-prepare {shlex.quote(str(self.corpus.folder))}"

    @property
    def folder(self) -> Path:
        return self.corpus.folder / "bin" / self.name

    def binarized(self, lang: str) -> Path:
        """Folder of the captions of one language, as :func:`binarize` writes them."""
        return self.folder / lang


class GivenVocabulary(CorpusVocabulary):
    """The ids of a tokenizer that came with a model, such as XLM-R's SentencePiece.

    Args:
        corpus: whose captions. tokenizer: the model's. folder: where it is, for messages.
    """

    def __init__(self, corpus: Corpus, tokenizer: Tokenizer, folder="FOLDER"):
        super().__init__(corpus)
        self._tokenizer, self._folder = tokenizer, folder

    @property
    def name(self) -> str:
        return self._tokenizer.name

    @property
    def tokenizer(self) -> Tokenizer:
        return self._tokenizer

    def load_dictionary(self, langs: Sequence[str]) -> "Dictionary":
        return self._tokenizer.dictionary

    def how_to_prepare(self, langs: Sequence[str]) -> str:
        return f"{self._prepare} --{self._tokenizer.option} {shlex.quote(str(self._folder))}"


class ClipVocabulary(CorpusVocabulary):
    """CLIP's vocabulary, with what has been added to it; kept in the corpus beside fairseq's ``dict.txt``."""

    @cached_property
    def tokenizer(self) -> ClipTokenizer:
        if not self.is_prepared:
            tokenizer = ClipTokenizer(self._make())
            tokenizer.vocabulary.save(self.folder)
            tokenizer.write_dictionary(self.folder / DICTIONARY_FILE)  # last: it says that the folder is complete
            return tokenizer
        return ClipTokenizer.load(self.folder)

    @property
    def is_prepared(self) -> bool:
        return (self.folder / DICTIONARY_FILE).exists()

    def load_dictionary(self, langs: Sequence[str]) -> "Dictionary":
        path = self.folder / DICTIONARY_FILE
        if not self.is_prepared:
            raise UserError(f"no vocabulary in {self.folder}; make it with: {self.how_to_prepare(langs)}")
        dictionary = ClipTokenizer.load_dictionary(path)
        if dictionary.symbols != self.tokenizer.vocabulary.tokens:
            raise DataError("differs from vocab.json beside it; run mlvl-prepare again", path)
        return dictionary

    @abstractmethod
    def _make(self) -> Vocabulary:
        """Raises DataError: a language's BPE vocabulary has not been trained."""

    def _grow(self, before: Vocabulary, own: Vocabulary, lang: str) -> Vocabulary:
        """Raises UserError: a language adds no token, which means its captions are not in it (or it is CLIP's own)."""
        vocabulary = before.grown_by(own)
        added = len(vocabulary) - len(before)
        if added == 0 and lang != self.corpus.source_lang:
            raise UserError(f"language '{lang}' adds no token to the vocabulary: are its captions really in it?")
        logger.info(
            "%s: %d tokens, %d known, %d new (%.1f%%)", lang, len(own), len(own) - added, added, 100 * added / len(own)
        )
        return vocabulary


class GrownVocabulary(ClipVocabulary):
    """CLIP's vocabulary grown by each of `languages` in turn (Yang et al. 2024, section 3.2); by none: CLIP's own, or
    the one of :func:`begin_with`.

    Args:
        corpus: whose training captions give each language its BPE vocabulary, see :func:`language_vocabulary`.
        languages: in the order in which they are learned.
    """

    def __init__(self, corpus: Corpus, languages: Sequence[str] = ()):
        super().__init__(corpus)
        self.languages = list(languages)

    @property
    def name(self) -> str:
        return "+".join(self.languages) or CLIP_VOCABULARY

    def _make(self) -> Vocabulary:
        if not self.languages:
            return clip_vocabulary()
        *learned, lang = self.languages
        before = GrownVocabulary(self.corpus, learned).tokenizer.vocabulary
        return self._grow(before, language_vocabulary(self.corpus, lang), lang)

    def how_to_prepare(self, langs: Sequence[str]) -> str:
        every = ",".join(self.languages)
        in_turn = set(langs) <= set(self.languages[-1:])
        option = f" --{'order' if in_turn else 'joint'} {every}" if every else ""
        return f"{self._prepare}{option}"


class UnionVocabulary(ClipVocabulary):
    """CLIP's vocabulary grown once, by a BPE vocabulary of the captions of all `languages` (the paper's oracle)."""

    def __init__(self, corpus: Corpus, languages: Sequence[str]):
        super().__init__(corpus)
        self.languages = list(languages)

    @property
    def name(self) -> str:
        return "&".join(self.languages)

    def _make(self) -> Vocabulary:
        alone = len(self.languages) == 1
        size = self.corpus.bpe_size if alone else UNION_BPE_SIZE
        own = _trained_once(self.corpus, self.name, self.languages, size)
        return self._grow(first_vocabulary(self.corpus), own, self.name)

    def how_to_prepare(self, langs: Sequence[str]) -> str:
        return f"{self._prepare} --oracle {','.join(self.languages)}"


def first_vocabulary(corpus: Corpus) -> Vocabulary:
    """What languages of a corpus add to: CLIP's own vocabulary, or that of :func:`begin_with`; nothing is written."""
    base = GrownVocabulary(corpus)
    return base.tokenizer.vocabulary if base.is_prepared else clip_vocabulary()


def begin_with(corpus: Corpus, vocabulary: Vocabulary, source) -> None:
    """Let the languages of a corpus add to what a CLIP has learned already, instead of to CLIP's own vocabulary.

    Args:
        vocabulary: of that CLIP. source: its file or folder, for messages.

    Raises:
        UserError: captions of the corpus are cut with another one already.
    """
    base = GrownVocabulary(corpus)
    if base.is_prepared and base.tokenizer.vocabulary.fingerprint == vocabulary.fingerprint:
        return
    others = sorted(path.name for path in base.folder.parent.glob("*") if path.is_dir())
    if others:
        raise UserError(
            f"{corpus.folder} has vocabularies that do not begin with that of {source} (bin/{others[0]}): give "
            "--begin-with where a corpus is made, with --languages"
        )
    vocabulary.save(base.folder)
    ClipTokenizer(vocabulary).write_dictionary(base.folder / DICTIONARY_FILE)
    logger.info("languages add to the %d tokens of %s", len(vocabulary), source)


def english_counts_path(corpus: Corpus) -> Path:
    """Counted tokens of the corpus's English training sentences; to be removed when there are more of them."""
    return GrownVocabulary(corpus).folder / "english_counts.npy"


def language_vocabulary(corpus: Corpus, lang: str, train: bool = False, progress: bool = True) -> Vocabulary:
    """The BPE vocabulary of one language's training captions; made if need be where `train` says so.

    Raises:
        DataError: it has not been trained.
    """
    if train:
        return _trained_once(corpus, lang, [lang], corpus.bpe_size, progress)
    return Vocabulary.load(_bpe_folder(corpus, lang, corpus.bpe_size))


def has_language_vocabulary(corpus: Corpus, lang: str) -> bool:
    """Has the BPE vocabulary of a language been trained?"""
    return (_bpe_folder(corpus, lang, corpus.bpe_size) / "merges.txt").exists()


def _trained_once(corpus: Corpus, name: str, languages: List[str], size: int, progress: bool = True) -> Vocabulary:
    folder = _bpe_folder(corpus, name, size)
    if not (folder / "merges.txt").exists():
        logger.info("training the BPE vocabulary of %s", name)
        captions = (caption for lang in languages for caption in corpus.captions("train", lang))  # one at a time
        train_bpe(captions, size, progress).save(folder)
    return Vocabulary.load(folder)


def _bpe_folder(corpus: Corpus, name: str, size: int) -> Path:
    return corpus.folder / "bpe" / f"{name}.{size}"
