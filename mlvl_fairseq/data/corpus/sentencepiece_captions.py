"""Captions of a corpus in the pieces of an XLM-R folder."""

from typing import List

from mlvl_fairseq.data.corpus.binarize import Cutting, binarize_captions, binarized_folder
from mlvl_fairseq.data.corpus.corpus import SPLITS, Corpus
from mlvl_fairseq.data.text.sentencepiece import DICTIONARY_FILE, SentencePieceTokenizer


def sentencepiece_vocabulary(tokenizer: SentencePieceTokenizer) -> List[str]:
    """What the vocabulary is called where those grown from CLIP's are called by their languages."""
    return [f"spm-{tokenizer.fingerprint[:12]}"]


def binarize_with_sentencepiece(corpus: Corpus, tokenizer: SentencePieceTokenizer) -> None:
    """Binarize the training and validation captions of all languages into ``bin/spm-<fingerprint>/LANG``."""
    vocabulary, dictionary = sentencepiece_vocabulary(tokenizer), tokenizer.dictionary
    path = tokenizer.folder / DICTIONARY_FILE
    for lang in dict.fromkeys(lang for split in SPLITS[:2] for lang in corpus.languages(split)):
        folder = binarized_folder(corpus, vocabulary, lang)
        binarize_captions(
            corpus, lang, folder, lambda: Cutting(tokenizer.encode_batch, dictionary.eos(), len(dictionary), path)
        )
