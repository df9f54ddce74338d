"""CLIP's tokenizer: its text pipeline, and byte-level BPE over a vocabulary that can grow by languages."""

from pathlib import Path
from typing import TYPE_CHECKING, Dict, List, Sequence

import tokenizers
from tokenizers import Regex, normalizers, pre_tokenizers
from tokenizers.models import BPE

from mlvl_fairseq.data.text.base import Tokenizer, register_tokenizer
from mlvl_fairseq.data.text.vocabulary import BOS_TOKEN, END_OF_WORD, EOS_TOKEN, Vocabulary, clip_vocabulary
from mlvl_fairseq.files import write_text

if TYPE_CHECKING:
    from mlvl_fairseq.data.text.dictionary import ClipDictionary

_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


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


@register_tokenizer("vocabulary", "CLIP's tokens: folder with vocab.json and merges.txt")
class ClipTokenizer(Tokenizer):
    """CLIP's byte-level BPE over any :class:`Vocabulary`.

    BOS and EOS are ``<|startoftext|>`` and ``<|endoftext|>``; padding and unknown are EOS, as in CLIP.
    """

    comes_with_a_model = False

    def __init__(self, vocabulary: Vocabulary):
        ids = {token: i for i, token in enumerate(vocabulary.tokens)}
        self.vocabulary = vocabulary
        self.bos, self.eos = ids[BOS_TOKEN], ids[EOS_TOKEN]
        self.pad = self.eos
        self._tokenizer = tokenizers.Tokenizer(
            BPE(ids, vocabulary.merges, unk_token=EOS_TOKEN, end_of_word_suffix=END_OF_WORD, fuse_unk=False)
        )
        self._tokenizer.normalizer = normalizer()
        self._tokenizer.pre_tokenizer = pre_tokenizer()

    @classmethod
    def detect(cls, folder: Path) -> bool:
        return (folder / "vocab.json").exists() and (folder / "merges.txt").exists()

    @classmethod
    def load(cls, folder) -> "ClipTokenizer":
        return cls(Vocabulary.load(folder))

    @classmethod
    def load_dictionary(cls, path) -> "ClipDictionary":
        from mlvl_fairseq.data.text.dictionary import ClipDictionary

        return ClipDictionary.load(str(path))

    @property
    def name(self) -> str:
        return "clip-bpe"

    @property
    def fingerprint(self) -> str:
        return self.vocabulary.fingerprint

    @property
    def dictionary(self) -> "ClipDictionary":
        from mlvl_fairseq.data.text.dictionary import ClipDictionary

        return ClipDictionary.of(self.vocabulary.tokens)

    def write_dictionary(self, path) -> None:
        """One line a token in the order of ids: the token and a count, which is not used."""
        write_text(path, "".join(f"{token} 1\n" for token in self.vocabulary.tokens))

    def __len__(self) -> int:
        return len(self.vocabulary)

    def encode_batch(self, texts: Sequence[str]) -> List[List[int]]:
        return [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]

    def encode(self, caption: str) -> List[int]:
        """Token ids of one caption, without BOS and EOS, not truncated."""
        return self._tokenizer.encode(caption).ids

    def tokens(self, text: str) -> List[str]:
        return self._tokenizer.encode(text).tokens

    def decode(self, ids: Sequence[int]) -> str:
        return self.vocabulary.decode(ids)

    def checkpoint_state(self) -> Dict:
        """What was added to CLIP's own vocabulary: a checkpoint can be used on its own."""
        return {"vocabulary": self.vocabulary.additions(clip_vocabulary())}
