"""Captions to token ids and back."""

from typing import List, Sequence

import tokenizers
from tokenizers.models import BPE

from mlvl_fairseq.data.text.base import Tokenizer
from mlvl_fairseq.data.text.text_pipeline import END_OF_WORD, normalizer, pre_tokenizer
from mlvl_fairseq.data.text.vocabulary import BOS_TOKEN, EOS_TOKEN, Vocabulary


class ClipTokenizer(Tokenizer):
    """CLIP's byte-level BPE over any :class:`Vocabulary`.

    BOS and EOS are ``<|startoftext|>`` and ``<|endoftext|>``; padding and unknown are EOS, as in CLIP.
    """

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

    @property
    def name(self) -> str:
        return "clip-bpe"

    @property
    def fingerprint(self) -> str:
        return self.vocabulary.fingerprint

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
