"""Captions to ids and back: one kind of tokenizer a file, behind one protocol (:class:`Tokenizer`)."""

from mlvl_fairseq.data.text.base import TextOptions, Tokenizer, load_tokenizer, register_tokenizer, tokenizer_kinds
from mlvl_fairseq.data.text.bpe_training import train_bpe
from mlvl_fairseq.data.text.clip_bpe import BOS_TOKEN, EOS_TOKEN, ClipTokenizer, Vocabulary, clip_vocabulary

__all__ = [
    "BOS_TOKEN",
    "EOS_TOKEN",
    "ClipTokenizer",
    "TextOptions",
    "Tokenizer",
    "Vocabulary",
    "clip_vocabulary",
    "load_tokenizer",
    "register_tokenizer",
    "tokenizer_kinds",
    "train_bpe",
]
