"""Byte-level BPE that grows from CLIP's vocabulary, one language after another (Yang et al. 2024, section 3.2)."""

from mlvl_fairseq.data.tokenizer.bpe_training import train_bpe
from mlvl_fairseq.data.tokenizer.tokenizer import ClipTokenizer
from mlvl_fairseq.data.tokenizer.vocabulary import BOS_TOKEN, EOS_TOKEN, Vocabulary, clip_vocabulary

__all__ = ["BOS_TOKEN", "EOS_TOKEN", "ClipTokenizer", "Vocabulary", "clip_vocabulary", "train_bpe"]
