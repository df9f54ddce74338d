"""SentencePiece text and XLM-R's dictionary: the folder layout of fairseq's XLM-R releases.

An XLM-R folder holds ``sentencepiece.bpe.model`` and ``dict.txt`` (one line a piece, in the order of ids), and
``model.pt`` if it has weights. Hugging Face's has no ``dict.txt``: its ids are those of the pieces' own order, as in
the releases.
"""

import hashlib
import io
from pathlib import Path
from typing import TYPE_CHECKING, Dict, Iterable, Iterator, List, Sequence, Union

import sentencepiece
from tqdm import tqdm

from mlvl_fairseq.data.text.base import Tokenizer, register_tokenizer
from mlvl_fairseq.data.text.cleaning import NO_CLEANING
from mlvl_fairseq.data.text.cleaning import cleaning as named_cleaning
from mlvl_fairseq.data.text_files import sentences
from mlvl_fairseq.errors import DataError, UserError, one_line
from mlvl_fairseq.files import atomic_path, open_file, read_text, write_text
from mlvl_fairseq.json_files import Sha256, checked

if TYPE_CHECKING:
    from fairseq.data import Dictionary

MODEL_FILE, DICTIONARY_FILE = "sentencepiece.bpe.model", "dict.txt"
MASK = "<mask>"
STATE, CLEANING_STATE = "sentencepiece", "sentencepiece_cleaning"
SPACE = "\u2581"  # SentencePiece's mark of a space
LONGEST_LINE = 4192  # bytes; SentencePiece leaves longer lines out of training
SAY_WHERE = "say where, --tokenizer-folder (of mlvl-convert: --sentencepiece)"


def load_xlmr_dictionary(path) -> "Dictionary":
    """XLM-R's dictionary with the very ids of its embedding: ``<s>`` 0, ``<pad>`` 1, ``</s>`` 2, ``<unk>`` 3, the
    pieces, and ``<mask>`` last (250,002 entries in the release). It has no tokens for languages.

    Args:
        path: an XLM-R folder, which may be Hugging Face's, or a ``dict.txt``.

    Raises:
        DataError: the file is missing or no such dictionary.
    """
    from fairseq.data import Dictionary

    path = Path(path)
    dictionary, text = Dictionary(), _dictionary_of(path)
    path = path / DICTIONARY_FILE if path.is_dir() else path
    try:
        dictionary.add_from_file(io.StringIO(text))
    except (ValueError, RuntimeError) as error:
        raise DataError(f"not a fairseq dictionary: {one_line(error)}", path) from None
    if dictionary.add_symbol(MASK) != len(dictionary) - 1:
        raise DataError(f"{MASK} is not its last entry; give the dict.txt that comes with the model", path)
    return dictionary


def _dictionary_of(path: Path) -> str:
    """What ``dict.txt`` says, or would."""
    file = path / DICTIONARY_FILE if path.is_dir() else path
    if path.is_dir() and not file.exists() and (path / MODEL_FILE).exists():
        return _dictionary_text(load_sentencepiece(path / MODEL_FILE))
    return read_text(file, "give XLM-R's folder, which holds dict.txt")


@register_tokenizer("sentencepiece", "XLM-R's pieces: folder with sentencepiece.bpe.model and dict.txt")
class SentencePieceTokenizer(Tokenizer):
    """Text to ids of an XLM-R folder and back. The ids are those that ``fairseq-preprocess`` and the hub interface of
    `XLMRModel` give for pieces made with ``--bpe sentencepiece``.

    Attributes:
        processor: of SentencePiece. piece_ids: the dictionary's id of every piece, by SentencePiece's id.
        clean: what is done to a text before.

    Args:
        folder: with ``sentencepiece.bpe.model`` and, unless it is Hugging Face's, ``dict.txt``.
        cleaning: what is done to texts before, a name of :mod:`mlvl_fairseq.data.text.cleaning`.
        max_words: what they are cut to then; 0: nothing.

    Raises:
        DataError: a file is missing or damaged, or the two do not belong together. UserError: there is no such
            cleaning.
    """

    def __init__(self, folder, cleaning: str = NO_CLEANING, max_words: int = 0):
        self.folder, self.cleaning, self.max_words = Path(folder), cleaning, max_words
        self.clean = named_cleaning(cleaning, max_words)
        self._dictionary = load_xlmr_dictionary(self.folder)
        self.bos, self.eos, self.pad = self.dictionary.bos(), self.dictionary.eos(), self.dictionary.pad()
        self.processor = load_sentencepiece(self.folder / MODEL_FILE)
        self.piece_ids = self._dictionary_ids()

    @classmethod
    def detect(cls, folder: Path) -> bool:
        return (folder / MODEL_FILE).exists()

    @classmethod
    def load(cls, folder) -> "SentencePieceTokenizer":
        return cls(folder)

    @classmethod
    def load_dictionary(cls, path) -> "Dictionary":
        return load_xlmr_dictionary(path)

    @property
    def dictionary(self) -> "Dictionary":
        return self._dictionary

    def write_dictionary(self, path) -> None:
        """The folder's own ``dict.txt``, byte for byte."""
        with atomic_path(path) as temporary:
            temporary.write_bytes(self._dictionary_bytes)

    def save(self, folder) -> None:
        """Write the two files into a folder, which is there; they may be there, too."""
        content = (self.folder / MODEL_FILE).read_bytes()
        with atomic_path(Path(folder) / MODEL_FILE) as temporary:
            temporary.write_bytes(content)
        self.write_dictionary(Path(folder) / DICTIONARY_FILE)

    def prepared(self, cleaning: str = NO_CLEANING, ends_texts: bool = True) -> "SentencePieceTokenizer":
        if not ends_texts:
            return super().prepared(cleaning, ends_texts)
        return SentencePieceTokenizer(self.folder, cleaning)

    def of_words(self, max_words: int) -> "SentencePieceTokenizer":
        return SentencePieceTokenizer(self.folder, self.cleaning, max_words)

    def checkpoint_state(self) -> Dict:
        """Only which one it was: the folder is needed beside a checkpoint."""
        cleaned = {} if self.cleaning == NO_CLEANING else {CLEANING_STATE: self.cleaning}
        return {STATE: self._digest, **cleaned}

    @classmethod
    def from_state(cls, state, source=None, folder=None):
        if STATE not in state:
            return None
        advice = "restore it from a good copy"
        digest = checked(state[STATE], Sha256, source, f"task_state.{STATE}", advice)
        cleaning = checked(state.get(CLEANING_STATE, NO_CLEANING), str, source, f"task_state.{CLEANING_STATE}", advice)
        places = [Path(place) for place in (folder, source and Path(source).parent) if place]  # beside the checkpoint
        place = next((place for place in places if (place / MODEL_FILE).exists()), None)
        if place is None:
            raise UserError(f"{source} needs its tokenizer, and {folder} has no {MODEL_FILE}: {SAY_WHERE}")
        tokenizer = cls(place, cleaning)
        if tokenizer._digest != digest:
            raise UserError(f"{place} is not the tokenizer that {source} was trained with: {SAY_WHERE}")
        return tokenizer

    def _dictionary_ids(self) -> List[int]:
        """The dictionary's id of every piece, by SentencePiece's id."""
        processor, unknown = self.processor, self.dictionary.unk()
        pieces = [processor.id_to_piece(i) for i in range(len(processor))]
        special = [processor.is_control(i) or processor.is_unknown(i) for i in range(len(processor))]
        missing = [p for p, skip in zip(pieces, special) if not skip and p not in self.dictionary]
        if missing:
            message = f"lacks {len(missing)} of the {len(pieces)} pieces of {MODEL_FILE} beside it, as '{missing[0]}'"
            raise DataError(message + "; give the two files of one model", self.folder / DICTIONARY_FILE)
        return [unknown if skip else self.dictionary.index(p) for p, skip in zip(pieces, special)]

    @property
    def name(self) -> str:
        cleaned = "" if self.cleaning == NO_CLEANING else f"-{self.cleaning}"
        return f"spm-{self._digest[:12]}{cleaned}{f'-{self.max_words}words' if self.max_words else ''}"

    @property
    def fingerprint(self) -> str:
        """Of the two files, and of what is done to texts before."""
        done = "" if self.cleaning == NO_CLEANING else f" {self.cleaning}"
        done += f" {self.max_words}" if self.max_words else ""
        return hashlib.sha256(f"{self._digest}{done}".encode()).hexdigest() if done else self._digest

    def continues(self, other: Tokenizer) -> bool:
        """Hugging Face's folder of a model and fairseq's, with counts in its ``dict.txt``, are the same."""
        if not isinstance(other, SentencePieceTokenizer):
            return False
        models = {(one.folder / MODEL_FILE).read_bytes() for one in (self, other)}
        return len(models) == 1 and self.dictionary.symbols == other.dictionary.symbols

    @property
    def _digest(self) -> str:
        """Of the two files."""
        contents = ((self.folder / MODEL_FILE).read_bytes(), self._dictionary_bytes)
        return hashlib.sha256(b"".join(hashlib.sha256(content).digest() for content in contents)).hexdigest()

    @property
    def _dictionary_bytes(self) -> bytes:
        file = self.folder / DICTIONARY_FILE
        return file.read_bytes() if file.exists() else _dictionary_of(self.folder).encode()

    def encode_batch(self, texts: Sequence[str]) -> List[List[int]]:
        cleaned = [self.clean(text) for text in texts]
        return [[self.piece_ids[i] for i in ids] for ids in self.processor.encode(cleaned, out_type=int)]

    def __len__(self) -> int:
        return len(self.dictionary)

    def tokens(self, text: str) -> List[str]:
        """The pieces of a text; an unknown one is given as it is written."""
        return self.processor.encode(self.clean(text), out_type=str)

    def decode(self, tokens: Iterable[Union[int, str]]) -> str:
        """The text of ids or pieces; special symbols but ``<unk>`` are left out."""
        return join_pieces(self.dictionary[t] if isinstance(t, int) else t for t in tokens)


def join_pieces(pieces: Iterable[str]) -> str:
    """Pieces to text, as fairseq's ``--bpe sentencepiece`` does it; ``<s>``, ``<pad>`` and ``</s>`` are left out."""
    text = "".join(piece for piece in pieces if piece not in ("<s>", "<pad>", "</s>"))
    return text.replace(" ", "").replace(SPACE, " ").strip()


def load_sentencepiece(path) -> sentencepiece.SentencePieceProcessor:
    """Raises DataError: the file is missing or no SentencePiece model."""
    with open_file(path, "give an XLM-R folder") as file:
        content = file.read()
    try:
        if content:  # of nothing the library makes a model that fails when it is used
            return sentencepiece.SentencePieceProcessor(model_proto=content)
    except RuntimeError:
        pass
    raise DataError("is damaged, or no SentencePiece model", path)


def train_sentencepiece(files: Sequence, folder, vocab_size: int, character_coverage: float = 0.9995) -> None:
    """Train a unigram model on text files, and write ``sentencepiece.bpe.model`` and ``dict.txt``.

    The same lines give the same files on every run: training takes one thread.

    Args:
        files: UTF-8 text, one sentence a line.
        folder: made if it is not there.
        vocab_size: pieces, SentencePiece's own three special ones included; the dictionary has two entries more
            (XLM-R: 250,000 and 250,002).
        character_coverage: share of the text's characters that get pieces; the rarest others become ``<unk>``.

    Raises:
        DataError: a file cannot be read. UserError: the text does not give a vocabulary of that size.
    """
    folder, model, faults = Path(folder), io.BytesIO(), []
    folder.mkdir(parents=True, exist_ok=True)
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_lines(files, faults),
            model_writer=model,
            vocab_size=vocab_size,
            character_coverage=character_coverage,
            max_sentence_length=LONGEST_LINE,
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        if faults:
            raise faults[0] from None
        reason = str(error).rpartition("] ")[2].strip().replace("character_c", "character-c") or "no text"
        raise UserError(f"no SentencePiece model of {vocab_size} pieces from {len(files)} files: {reason}") from None
    with atomic_path(folder / MODEL_FILE) as temporary:
        temporary.write_bytes(model.getvalue())
    write_text(folder / DICTIONARY_FILE, _dictionary_text(load_sentencepiece(folder / MODEL_FILE)))


def _lines(files: Sequence, faults: List[DataError]) -> Iterator[str]:
    """SentencePiece makes another error of one that is raised here: it is kept in `faults`."""
    try:
        for path in files:
            yield from tqdm(sentences(path), desc=str(path), unit=" lines", leave=False)
    except DataError as error:
        faults.append(error)
        raise


def _dictionary_text(processor) -> str:
    """``dict.txt``: the pieces without the special ones, whose ids fairseq's dictionary gives by itself."""
    ids = range(len(processor))
    pieces = [processor.id_to_piece(i) for i in ids if not (processor.is_control(i) or processor.is_unknown(i))]
    return "".join(f"{piece} 1\n" for piece in pieces)
