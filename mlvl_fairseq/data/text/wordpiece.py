"""BERT's tokenizer: WordPiece over words and single CJK characters, with the very ids of ``vocab.txt``."""

import hashlib
import json
import logging
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence

import tokenizers
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from mlvl_fairseq.data.text.base import Tokenizer, register_tokenizer
from mlvl_fairseq.data.text.cleaning import NO_CLEANING, cleaning
from mlvl_fairseq.data.text.dictionaries import dictionary_text, ordered_dictionary
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.files import read_text, write_text
from mlvl_fairseq.json_files import Count, Size, checked, read_json

if TYPE_CHECKING:
    from fairseq.data import Dictionary

logger = logging.getLogger(__name__)

VOCABULARY, FAST, CONFIG = "vocab.txt", "tokenizer.json", "tokenizer_config.json"
BEGIN, END, PAD, UNKNOWN = "[CLS]", "[SEP]", "[PAD]", "[UNK]"
SPECIAL = {"bos": BEGIN, "pad": PAD, "eos": END, "unk": UNKNOWN}
CONTINUES = "##"  # marks a piece that goes on with a word
STATE = "wordpiece"
OTHERS = ("vocab.json", "sentencepiece.bpe.model")  # with one of these, tokenizer.json is another tokenizer's
_AGAIN = "fetch the tokenizer again"


@dataclass(frozen=True)
class WordPieces:
    """All that texts become ids by.

    Attributes:
        tokens: in the order of ids.
        lowercase: text is lower-cased. strip_accents: accents are left out. cjk_apart: each CJK character is a word.
        clean_text: control characters are left out, white space becomes spaces.
        longest_word: in characters; longer ones are unknown.
        cleaning: what is done to captions before, a name of :mod:`mlvl_fairseq.data.text.cleaning`.
        ends_texts: whether ``[SEP]`` stands behind a text.
    """

    tokens: List[str]
    lowercase: bool
    strip_accents: bool
    cjk_apart: bool = True
    clean_text: bool = True
    longest_word: Size = 100
    cleaning: str = NO_CLEANING
    ends_texts: bool = True


@register_tokenizer("wordpiece", f"BERT's pieces: folder with {VOCABULARY} or {FAST}")
class WordPieceTokenizer(Tokenizer):
    """Text to ids of a BERT and back. The ids are those of `transformers`' BertTokenizer, except that a text cannot
    name special tokens: ``[SEP]`` in a caption is three pieces.

    Args:
        pieces: tokens and settings. source: the file to name. max_words: see :class:`Tokenizer`.

    Raises:
        DataError: a special token is missing. UserError: there is no such cleaning.
    """

    def __init__(self, pieces: WordPieces, source=None, max_words: int = 0):
        ids = {token: i for i, token in enumerate(pieces.tokens)}
        missing = [token for token in SPECIAL.values() if token not in ids]
        if missing:
            raise DataError(f"lacks {', '.join(missing)}: this is no vocabulary of a BERT", source)
        self.pieces, self.ends_texts = pieces, pieces.ends_texts
        self.bos, self.eos, self.pad = ids[BEGIN], ids[END], ids[PAD]
        self.max_words, self._clean = max_words, cleaning(pieces.cleaning, max_words)
        self.cutter = tokenizers.Tokenizer(
            WordPiece(
                ids,
                unk_token=UNKNOWN,
                continuing_subword_prefix=CONTINUES,
                max_input_chars_per_word=pieces.longest_word,
            )
        )
        self.cutter.normalizer = BertNormalizer(
            clean_text=pieces.clean_text,
            handle_chinese_chars=pieces.cjk_apart,
            strip_accents=pieces.strip_accents,
            lowercase=pieces.lowercase,
        )
        self.cutter.pre_tokenizer = BertPreTokenizer()

    @classmethod
    def detect(cls, folder: Path) -> bool:
        is_fast = (folder / FAST).exists() and not any((folder / name).exists() for name in OTHERS)
        return is_fast or (folder / VOCABULARY).exists()

    @classmethod
    def load(cls, folder) -> "WordPieceTokenizer":
        """Read a folder. What ``tokenizer_config.json`` says wins over ``tokenizer.json``; where nothing says whether
        text is lower-cased, the vocabulary tells by whether it has capital letters."""
        folder = Path(folder)
        return cls(read_pieces(folder), folder / (FAST if (folder / FAST).exists() else VOCABULARY))

    @classmethod
    def from_state(cls, state, source=None, folder=None):
        """See :class:`Tokenizer`; no file is needed."""
        if STATE not in state:
            return None
        pieces = checked(state, _State, source, "task_state", "restore it from a good copy").wordpiece
        _require_distinct(pieces.tokens, source)
        return cls(pieces, source)

    @classmethod
    def load_dictionary(cls, path) -> "Dictionary":
        return ordered_dictionary(read_text(path, "give a fairseq dictionary"), path, **SPECIAL)

    def prepared(self, cleaning: str = NO_CLEANING, ends_texts: bool = True) -> "WordPieceTokenizer":
        return WordPieceTokenizer(replace(self.pieces, cleaning=cleaning, ends_texts=ends_texts))

    def is_of(self, folder) -> bool:
        """Whether a folder holds it, prepared or not. Raises DataError: it holds none."""
        return self.continues(self.load(folder))

    @property
    def name(self) -> str:
        cleaned = "" if self.pieces.cleaning == NO_CLEANING else f"-{self.pieces.cleaning}"
        words = f"-{self.max_words}words" if self.max_words else ""
        return f"wordpiece-{self._digest[:12]}{cleaned}{words}{'' if self.ends_texts else '-unended'}"

    @property
    def fingerprint(self) -> str:
        if not self.max_words:
            return self._digest
        return hashlib.sha256(f"{self._digest} {self.max_words}".encode()).hexdigest()

    @cached_property
    def _digest(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self.pieces), sort_keys=True).encode()).hexdigest()

    def of_words(self, max_words: int) -> "WordPieceTokenizer":
        return WordPieceTokenizer(self.pieces, max_words=max_words)

    def continues(self, other: Tokenizer) -> bool:
        if not isinstance(other, WordPieceTokenizer):
            return False
        return replace(other.pieces, cleaning=self.pieces.cleaning, ends_texts=self.ends_texts) == self.pieces

    @property
    def dictionary(self) -> "Dictionary":
        return ordered_dictionary(dictionary_text(self.pieces.tokens), VOCABULARY, **SPECIAL)

    def write_dictionary(self, path) -> None:
        write_text(path, dictionary_text(self.pieces.tokens))

    def __len__(self) -> int:
        return len(self.pieces.tokens)

    def encode_batch(self, texts: Sequence[str]) -> List[List[int]]:
        cleaned = [self._clean(text) for text in texts]
        return [encoding.ids for encoding in self.cutter.encode_batch(cleaned, add_special_tokens=False)]

    def tokens(self, text: str) -> List[str]:
        return self.cutter.encode(self._clean(text), add_special_tokens=False).tokens

    def decode(self, ids: Sequence[int]) -> str:
        """Words separated by one space, as they were cut: lower-cased and without accents where the tokenizer is so."""
        return " ".join(self.pieces.tokens[i] for i in ids).replace(f" {CONTINUES}", "")

    def checkpoint_state(self) -> Dict:
        """All of it: a checkpoint can be used on its own."""
        return {STATE: asdict(self.pieces)}


@dataclass
class _State:
    wordpiece: WordPieces


def read_pieces(folder: Path) -> WordPieces:
    """The tokens and settings of a folder, see :meth:`WordPieceTokenizer.load`.

    Raises:
        DataError: a file is missing or damaged, holds another tokenizer, or two files differ.
    """
    fast = _read_fast(folder / FAST) if (folder / FAST).exists() else None
    if fast is None or (folder / VOCABULARY).exists():
        tokens = _read_vocabulary(folder / VOCABULARY)
        if fast and fast.tokens != tokens:
            message = f"holds other tokens than {FAST} beside it; give the files of one model"
            raise DataError(message, folder / VOCABULARY)
        fast = fast or _Settings(tokens)
    if (folder / CONFIG).exists():
        said = read_json(folder / CONFIG, _Config, _AGAIN, of_others=True)
        given = {"lowercase": said.do_lower_case, "accents": said.strip_accents, "cjk": said.tokenize_chinese_chars}
        fast = replace(fast, **{name: value for name, value in given.items() if value is not None})
    if fast.lowercase is None:
        fast = replace(fast, lowercase=not any(_has_capitals(token) for token in fast.tokens))
        how = "is, as the vocabulary has no capital letter" if fast.lowercase else "is not, as the vocabulary has some"
        logger.warning("%s: no %s says whether text is lower-cased: it %s", folder, CONFIG, how)
    strip = fast.lowercase if fast.accents is None else fast.accents
    return WordPieces(fast.tokens, fast.lowercase, strip, fast.cjk, fast.clean, fast.longest)


@dataclass(frozen=True)
class _Settings:
    """As files say them; None: they do not. Accents follow lower-casing where nothing is said."""

    tokens: List[str]
    lowercase: Optional[bool] = None
    accents: Optional[bool] = None
    cjk: bool = True
    clean: bool = True
    longest: int = 100


@dataclass
class _Config:
    """``tokenizer_config.json``, as far as it matters."""

    do_lower_case: Optional[bool] = None
    strip_accents: Optional[bool] = None
    tokenize_chinese_chars: Optional[bool] = None


@dataclass
class _Model:
    vocab: Dict[str, Count]
    type: str = "WordPiece"
    unk_token: str = UNKNOWN
    continuing_subword_prefix: str = CONTINUES
    max_input_chars_per_word: Size = 100


@dataclass
class _Normalizer:
    type: str
    clean_text: bool = True
    handle_chinese_chars: bool = True
    strip_accents: Optional[bool] = None
    lowercase: bool = True


@dataclass
class _PreTokenizer:
    type: str


@dataclass
class _AddedToken:
    content: str


@dataclass
class _Fast:
    """``tokenizer.json``, as far as it matters; how it pads, truncates and adds special tokens does not."""

    model: Dict[str, Any]
    normalizer: Optional[Dict[str, Any]] = None
    pre_tokenizer: Optional[_PreTokenizer] = None
    added_tokens: Optional[List[_AddedToken]] = None


def _read_fast(path: Path) -> _Settings:
    content = read_json(path, _Fast, _AGAIN, of_others=True)
    kinds = content.model.get("type", _Model.type), (content.normalizer or {}).get("type")
    if kinds != ("WordPiece", "BertNormalizer") or content.pre_tokenizer != _PreTokenizer("BertPreTokenizer"):
        raise DataError("is no tokenizer of a BERT (WordPiece, BertNormalizer and BertPreTokenizer)", path)
    model = checked(content.model, _Model, path, "model", _AGAIN)
    normalizer = checked(content.normalizer, _Normalizer, path, "normalizer", _AGAIN)
    if (model.unk_token, model.continuing_subword_prefix) != (UNKNOWN, CONTINUES):
        message = f"marks unknown words and pieces otherwise than by {UNKNOWN} and {CONTINUES}"
        raise DataError(message, path, field="model")
    tokens = sorted(model.vocab, key=model.vocab.__getitem__)
    if [model.vocab[token] for token in tokens] != list(range(len(tokens))):
        raise DataError("token ids are not 0, 1, 2, ... without gaps", path, field="model.vocab")
    added = [token.content for token in content.added_tokens or [] if token.content not in model.vocab]
    if added:
        message = f"adds tokens to the vocabulary, as '{added[0]}', which no BERT has"
        raise DataError(message, path, field="added_tokens")
    return _Settings(
        [_plain(token, path) for token in tokens],
        normalizer.lowercase,
        normalizer.strip_accents,
        normalizer.handle_chinese_chars,
        normalizer.clean_text,
        model.max_input_chars_per_word,
    )


def _read_vocabulary(path: Path) -> List[str]:
    lines = read_text(path, f"a BERT's folder has it, or {FAST}").split("\n")
    tokens = [_plain(token, path, number) for number, token in enumerate(lines[: -1 if not lines[-1] else None], 1)]
    _require_distinct(tokens, path)
    return tokens


def _plain(token: str, path, line: Optional[int] = None) -> str:
    """Raises DataError: fairseq's dictionary cannot hold such a token."""
    if not token or "\n" in token or "\r" in token:
        raise DataError(f"token {token!r} is empty or holds an end of line", path, line)
    return token


def _require_distinct(tokens: Sequence[str], path) -> None:
    first: Dict[str, int] = {}
    for line, token in enumerate(tokens, 1):
        if first.setdefault(token, line) != line:
            raise DataError(f"holds '{token}' a second time; the first is line {first[token]}", path, line)


def _has_capitals(token: str) -> bool:
    is_special = token.startswith("[") and len(token) > 1
    return not is_special and any("A" <= letter <= "Z" for letter in token)
