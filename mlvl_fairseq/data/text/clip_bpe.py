"""CLIP's tokenizer: its text pipeline, and byte-level BPE over a vocabulary that can grow by languages."""

import gzip
import hashlib
import importlib.util
import json
import os
from dataclasses import asdict, dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import tokenizers
from tokenizers import Regex, normalizers, pre_tokenizers
from tokenizers.models import BPE

from mlvl_fairseq.data.text.base import Tokenizer, joined_ids, register_tokenizer
from mlvl_fairseq.data.text.dictionaries import dictionary_text, ordered_dictionary
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.files import read_text, write_text
from mlvl_fairseq.json_files import Count, Size, checked, json_content, parse_json

if TYPE_CHECKING:
    from fairseq.data import Dictionary

BOS_TOKEN, EOS_TOKEN = "<|startoftext|>", "<|endoftext|>"
END_OF_WORD = "</w>"
MERGES_HEADER = "#version: 0.2"
CLIP_MERGES = 49152 - 256 - 2  # CLIP uses this many lines of the merges file it ships
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


@dataclass
class Vocabulary:
    """Tokens (position = id) and merges (position = rank) of a byte-level BPE.

    They stay as they are: what has been made of them is kept, and :meth:`load` gives the same one again as long as the
    files hold the same.
    """

    tokens: List[str]
    merges: List[Tuple[str, str]]

    def __len__(self) -> int:
        return len(self.tokens)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) over tokens and merges, in their order."""
        return hashlib.sha256(json.dumps([self.tokens, self.merges]).encode()).hexdigest()

    @cached_property
    def cutter(self) -> tokenizers.Tokenizer:
        """What cuts texts into these tokens."""
        ids = {token: i for i, token in enumerate(self.tokens)}
        cutter = tokenizers.Tokenizer(
            BPE(ids, self.merges, unk_token=EOS_TOKEN, end_of_word_suffix=END_OF_WORD, fuse_unk=False)
        )
        cutter.normalizer, cutter.pre_tokenizer = normalizer(), pre_tokenizer()
        return cutter

    def grown_by(self, new: "Vocabulary") -> "Vocabulary":
        """This vocabulary with another language's appended (Yang et al. 2024, section 3.2).

        Ids are append-only: a token that is here already keeps its id (lexical overlap). Merges of this vocabulary
        keep their rank, the new language's follow, so known words are still cut as before wherever a merge of this
        vocabulary applies.
        """
        tokens = dict.fromkeys(self.tokens)
        tokens.update(dict.fromkeys(new.tokens))
        merges = dict.fromkeys(self.merges)
        merges.update(dict.fromkeys(new.merges))
        return Vocabulary(list(tokens), list(merges))

    def decode(self, ids: Sequence[int]) -> str:
        """The text behind token ids, words separated by one space: encoded again, it gives the same words."""
        words = "".join(self.tokens[i] for i in ids).replace(END_OF_WORD, " ")
        data = bytes(ord(" ") if symbol == " " else _bytes_of_symbols()[symbol] for symbol in words)
        return data.decode("utf-8", "replace").strip()

    def additions(self, base: "Vocabulary") -> Dict[str, List[str]]:
        """What :meth:`with_additions` needs to make this vocabulary from `base`: plain lists, fit for a checkpoint."""
        return {
            "tokens": self.tokens[len(base.tokens) :],
            "merges": [" ".join(merge) for merge in self.merges[len(base.merges) :]],
        }

    def with_additions(self, additions: Dict[str, List[str]], source=None) -> "Vocabulary":
        """This vocabulary with what :meth:`additions` wrote.

        Raises:
            DataError: a token is there twice, or a merge is none of tokens. source: the file to name.
        """
        merges = [tuple(merge.split(" ")) for merge in additions["merges"]]
        grown = Vocabulary(self.tokens + additions["tokens"], self.merges + merges)
        known = set(grown.tokens)
        if len(known) < len(grown.tokens):
            raise DataError("holds a token twice", source, field="task_state.vocabulary.tokens")
        for merge in merges:
            if len(merge) != 2 or not {*merge, "".join(merge)} <= known:
                raise DataError(f"{merge} is no merge of two tokens", source, field="task_state.vocabulary.merges")
        return grown

    def save(self, folder) -> None:
        """Write ``vocab.json`` (token -> id) and ``merges.txt``, the two files of every byte-level BPE."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        ids = {token: i for i, token in enumerate(self.tokens)}
        write_text(folder / "vocab.json", json.dumps(ids, ensure_ascii=False))
        write_text(folder / "merges.txt", "\n".join([MERGES_HEADER, *map(" ".join, self.merges)]) + "\n")

    @classmethod
    def load(cls, folder) -> "Vocabulary":
        """Read what :meth:`save` wrote.

        Raises:
            DataError: a file is absent or damaged, ids have gaps, a special is missing, a merge makes an unknown token.
        """
        ids, merges = Path(folder) / "vocab.json", Path(folder) / "merges.txt"
        content = json_content(ids, "make it again with mlvl-prepare")
        return _parse_vocabulary(content, ids, read_text(merges, "make it with mlvl-prepare"), merges)


@lru_cache(maxsize=4)  # a run needs the same ones again and again, and the processes forked from it inherit them
def _parse_vocabulary(ids_content: bytes, ids_path: Path, merges_text: str, merges_path: Path) -> Vocabulary:
    ids = parse_json(ids_content, Dict[str, Count], ids_path, "make it again with mlvl-prepare")
    tokens = sorted(ids, key=ids.__getitem__)
    if [ids[token] for token in tokens] != list(range(len(tokens))):
        raise DataError("token ids are not 0, 1, 2, ... without gaps", ids_path)
    if not {BOS_TOKEN, EOS_TOKEN} <= ids.keys():
        raise DataError(f"lacks {BOS_TOKEN} or {EOS_TOKEN}: not a vocabulary that mlvl-prepare wrote", ids_path)
    return Vocabulary(tokens, _parse_merges(merges_text, merges_path, set(tokens)))


def _parse_merges(text: str, path: Path, tokens) -> List[Tuple[str, str]]:
    lines = text.split("\n")
    if lines[0] != MERGES_HEADER:
        raise DataError(f"does not begin with '{MERGES_HEADER}'", path, line=1)
    merges = []
    for number, line in enumerate(lines[1:], start=2):
        if not line:
            continue
        pair = tuple(line.split(" "))
        if len(pair) != 2 or "".join(pair) not in tokens:
            raise DataError("not a merge of two tokens into a token of vocab.json", path, line=number)
        merges.append(pair)
    return merges


@lru_cache(maxsize=1)
def clip_vocabulary() -> Vocabulary:
    """OpenAI CLIP's vocabulary (49,408 tokens, 48,894 merges), from the installed ``clip`` package.

    Raises:
        UserError: the ``clip`` package is absent, or is another package of that name.
    """
    package = importlib.util.find_spec("clip")
    folder = package.submodule_search_locations[0] if package and package.submodule_search_locations else ""
    path = os.path.join(folder, "bpe_simple_vocab_16e6.txt.gz")
    if not os.path.exists(path):
        raise UserError("OpenAI's clip is not installed (its vocabulary file is missing): pip install openai-clip")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        merges = [tuple(line.split()) for line in file.read().split("\n")[1 : CLIP_MERGES + 1]]
    alphabet = _byte_symbols()
    tokens = alphabet + [symbol + END_OF_WORD for symbol in alphabet] + ["".join(merge) for merge in merges]
    return Vocabulary(tokens + [BOS_TOKEN, EOS_TOKEN], merges)


def _byte_symbols() -> List[str]:
    """The 256 printable stand-ins for bytes, in the order of CLIP's ids."""
    return list(_bytes_of_symbols())


@lru_cache(maxsize=1)
def _bytes_of_symbols() -> Dict[str, int]:
    """Stand-in to byte: printable Latin-1 stands for itself, the others follow from U+0100 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {**{chr(byte): byte for byte in printable}, **{chr(256 + i): byte for i, byte in enumerate(others)}}


def normalizer() -> normalizers.Normalizer:
    """NFC, white space collapsed to one space, lower case."""
    return normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])


def pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    """Contractions | runs of letters | single digits | runs of anything else, each mapped to printable bytes."""
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def checked_segmentation(given: Any, vocabulary: Vocabulary, source) -> Dict[str, Tuple[int, int]]:
    """What a checkpoint says of how captions of each language are cut, see :class:`ClipTokenizer`.

    Raises:
        DataError: it is damaged: a language was learned with more than there is.
    """
    where = "task_state.segmentation"
    sizes = checked(given, Dict[str, Tuple[Size, Size]], source, where, "restore it from a good copy")
    for lang, (tokens, merges) in sizes.items():
        if tokens > len(vocabulary) or merges > len(vocabulary.merges):
            message = f"says that '{lang}' was learned with more tokens or merges than there are"
            raise DataError(message, source, field=where)
    return sizes


@dataclass
class _Additions:
    tokens: List[str] = field(default_factory=list)
    merges: List[str] = field(default_factory=list)


@register_tokenizer("vocabulary", "CLIP's tokens: folder with vocab.json and merges.txt")
class ClipTokenizer(Tokenizer):
    """CLIP's byte-level BPE over any :class:`Vocabulary`.

    BOS and EOS are ``<|startoftext|>`` and ``<|endoftext|>``; padding and unknown are EOS, as in CLIP.

    Args:
        vocabulary: tokens and merges.
        segmentation: language -> numbers of tokens and merges that there were when it was learned: its captions are cut
            by these alone. Other languages: by all.
    """

    comes_with_a_model = False

    def __init__(self, vocabulary: Vocabulary, segmentation: Optional[Mapping[str, Tuple[int, int]]] = None):
        self.vocabulary, self.segmentation = vocabulary, dict(segmentation or {})
        self._tokenizer = vocabulary.cutter
        self.bos, self.eos = map(self._tokenizer.token_to_id, (BOS_TOKEN, EOS_TOKEN))
        self.pad = self.eos

    @classmethod
    def detect(cls, folder: Path) -> bool:
        return (folder / "vocab.json").exists() and (folder / "merges.txt").exists()

    @classmethod
    def load(cls, folder) -> "ClipTokenizer":
        return cls(Vocabulary.load(folder))

    @classmethod
    def load_dictionary(cls, path) -> "Dictionary":
        return load_clip_dictionary(path)

    @property
    def name(self) -> str:
        return "clip-bpe-frozen" if self.segmentation else "clip-bpe"

    @property
    def fingerprint(self) -> str:
        return self.vocabulary.fingerprint

    def continues(self, other: Tokenizer) -> bool:
        return isinstance(other, ClipTokenizer) and (self.vocabulary.tokens[: len(other)] == other.vocabulary.tokens)

    @property
    def own_languages(self) -> Sequence[str]:
        return list(self.segmentation)

    @property
    def dictionary(self) -> "Dictionary":
        return clip_dictionary(dictionary_text(self.vocabulary.tokens), "vocabulary")

    def write_dictionary(self, path) -> None:
        write_text(path, dictionary_text(self.vocabulary.tokens))

    def __len__(self) -> int:
        return len(self.vocabulary)

    def encode_batch(self, texts: Sequence[str]) -> List[List[int]]:
        return [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]

    def encode_joined(self, texts: Sequence[str]) -> Tuple[np.ndarray, np.ndarray]:
        """No word goes across a space, and nothing that is done to a text looks across one: what stands between spaces
        is cut once, however often it occurs."""
        numbers: Dict[str, int] = {}
        parts = np.fromiter((numbers.setdefault(part, len(numbers)) for text in texts for part in text.split(" ")), int)
        ids, lengths = joined_ids(self.encode_batch(list(numbers)))
        firsts, of_parts = (np.cumsum(lengths) - lengths)[parts], lengths[parts]
        ends = np.cumsum(of_parts)
        places = np.arange(of_parts.sum()) + np.repeat(firsts - ends + of_parts, of_parts)
        ends_of_texts = ends[np.cumsum(np.fromiter((text.count(" ") + 1 for text in texts), int)) - 1]
        return ids[places], np.diff(ends_of_texts, prepend=0)

    @lru_cache(maxsize=1)
    def of_language(self, lang: Optional[str]) -> "ClipTokenizer":
        if lang not in self.segmentation:
            return self
        tokens, merges = self.segmentation[lang]
        return ClipTokenizer(Vocabulary(self.vocabulary.tokens[:tokens], self.vocabulary.merges[:merges]))

    def words(self, texts: Sequence[str]) -> List[List[Tuple[int, ...]]]:
        """Ids of each word of each text."""
        last = {i for i, token in enumerate(self.vocabulary.tokens) if token.endswith(END_OF_WORD)}
        cut = []
        for ids in self.encode_batch(texts):
            ends = [place + 1 for place, token in enumerate(ids) if token in last]
            cut.append([tuple(ids[start:end]) for start, end in zip([0, *ends], ends)])
        return cut

    def encode(self, caption: str) -> List[int]:
        """Token ids of one caption, without BOS and EOS, not truncated."""
        return self._tokenizer.encode(caption).ids

    def tokens(self, text: str) -> List[str]:
        return self._tokenizer.encode(text).tokens

    def decode(self, ids: Sequence[int]) -> str:
        return self.vocabulary.decode(ids)

    def checkpoint_state(self) -> Dict:
        """What was added to CLIP's own vocabulary: a checkpoint can be used on its own."""
        state = {"vocabulary": self.vocabulary.additions(clip_vocabulary())}
        return {**state, "segmentation": self.segmentation} if self.segmentation else state

    @classmethod
    def from_state(cls, state, source=None, folder=None):
        if "vocabulary" not in state:
            return None
        added = checked(state["vocabulary"], _Additions, source, "task_state.vocabulary", "restore it from a good copy")
        vocabulary = clip_vocabulary().with_additions(asdict(added), source)
        return cls(vocabulary, checked_segmentation(state.get("segmentation") or {}, vocabulary, source))


def load_clip_dictionary(path) -> "Dictionary":
    """A ``dict.txt`` that :meth:`ClipTokenizer.write_dictionary` wrote, see :func:`clip_dictionary`.

    Raises:
        DataError: the file is unreadable or lacks CLIP's two special tokens.
    """
    return clip_dictionary(read_text(path, "give a fairseq dictionary"), path)


def clip_dictionary(text: str, source) -> "Dictionary":
    """fairseq's dictionary with CLIP's own ids: no symbol of fairseq's is put before them, and end of sentence, padding
    and unknown are all ``<|endoftext|>``.

    Never derive a mask from ``tokens.ne(pad)``: the first ``<|endoftext|>`` is text, the others are padding.

    Args:
        text: of a ``dict.txt``: a line with a token and a count each, in the order of ids.
        source: for messages.
    """
    return ordered_dictionary(text, source, bos=BOS_TOKEN, pad=EOS_TOKEN, eos=EOS_TOKEN, unk=EOS_TOKEN)
