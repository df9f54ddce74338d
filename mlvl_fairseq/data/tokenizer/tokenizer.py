"""Captions to token ids and back."""

from typing import List, Sequence

from tokenizers import Tokenizer
from tokenizers.models import BPE

from mlvl_fairseq.data.tokenizer.text_pipeline import END_OF_WORD, normalizer, pre_tokenizer
from mlvl_fairseq.data.tokenizer.vocabulary import BOS_TOKEN, EOS_TOKEN, Vocabulary


class ClipTokenizer:
    """CLIP's byte-level BPE over any :class:`Vocabulary`.

    Attributes:
        bos, eos: ids of ``<|startoftext|>`` and ``<|endoftext|>``; padding and unknown are ``eos``, as in CLIP.
    """

    def __init__(self, vocabulary: Vocabulary):
        ids = {token: i for i, token in enumerate(vocabulary.tokens)}
        self.vocabulary = vocabulary
        self.bos, self.eos = ids[BOS_TOKEN], ids[EOS_TOKEN]
        self._tokenizer = Tokenizer(
            BPE(ids, vocabulary.merges, unk_token=EOS_TOKEN, end_of_word_suffix=END_OF_WORD, fuse_unk=False)
        )
        self._tokenizer.normalizer = normalizer()
        self._tokenizer.pre_tokenizer = pre_tokenizer()

    def __len__(self) -> int:
        return len(self.vocabulary)

    def encode_batch(self, captions: Sequence[str]) -> List[List[int]]:
        """Token ids of each caption, without BOS and EOS, not truncated."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch(list(captions))]

    def encode(self, caption: str) -> List[int]:
        """Token ids of one caption, without BOS and EOS, not truncated."""
        return self._tokenizer.encode(caption).ids

    def tokens(self, caption: str) -> List[str]:
        """Token strings of one caption: what a line of a ``fairseq-preprocess`` input holds."""
        return self._tokenizer.encode(caption).tokens
