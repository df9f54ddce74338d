"""Vocabularies of a corpus: one BPE a language, and the one that has grown along a sequence of languages.

Everything is trained or merged once, saved, and only read afterwards: ids never change under a finished model.
"""

import logging
from pathlib import Path
from typing import Sequence

from mlvl_fairseq.data.corpus.corpus import Corpus
from mlvl_fairseq.data.dictionary import write_dictionary
from mlvl_fairseq.data.text import ClipTokenizer, Vocabulary, clip_vocabulary, train_bpe
from mlvl_fairseq.errors import UserError

logger = logging.getLogger(__name__)

CLIP_VOCABULARY = "clip"
UNION = "&"
UNION_BPE_SIZE = 200_000  # Yang et al. 2024: the oracle vocabulary, which has seen all languages before the first


def vocabulary_name(languages: Sequence[str]) -> str:
    """Folder name of the vocabulary after learning `languages` in this order; no language: CLIP's own."""
    return "+".join(languages) or CLIP_VOCABULARY


def union(languages: Sequence[str]) -> str:
    """A name that stands for one language whose captions are those of all `languages`: the oracle vocabulary's."""
    return UNION.join(languages)


def vocabulary_folder(corpus: Corpus, languages: Sequence[str]) -> Path:
    return corpus.folder / "bin" / vocabulary_name(languages)


def english_counts_path(corpus: Corpus) -> Path:
    """Counted tokens of the corpus's English training sentences; to be removed when there are more of them."""
    return vocabulary_folder(corpus, []) / "english_counts.npy"


def language_vocabulary(corpus: Corpus, lang: str, train: bool = False) -> Vocabulary:
    """The BPE vocabulary of one language's training captions, or of a :func:`union`; with `train`, made if need be."""
    languages = lang.split(UNION)
    size = corpus.bpe_size if len(languages) == 1 else UNION_BPE_SIZE
    folder = corpus.folder / "bpe" / f"{lang}.{size}"
    if train and not (folder / "merges.txt").exists():
        logger.info("training the BPE vocabulary of %s", lang)
        captions = [caption for one in languages for caption in corpus.captions("train", one)]
        train_bpe(captions, size, progress=True).save(folder)
    return Vocabulary.load(folder)


def grown_vocabulary(corpus: Corpus, languages: Sequence[str]) -> Vocabulary:
    """CLIP's vocabulary grown by each of `languages` in turn, saved beside fairseq's ``dict.txt`` on first use.

    Raises:
        UserError: a language adds no token, which means its captions are not in it (or it is CLIP's own English).
    """
    folder = vocabulary_folder(corpus, languages)
    if (folder / "dict.txt").exists():
        return Vocabulary.load(folder)
    if not languages:
        vocabulary = clip_vocabulary()
    else:
        *learned, lang = languages
        before = grown_vocabulary(corpus, learned)
        own = language_vocabulary(corpus, lang, train=UNION in lang)
        vocabulary = before.grown_by(own)
        added = len(vocabulary) - len(before)
        if added == 0 and lang != corpus.source_lang:
            raise UserError(f"language '{lang}' adds no token to the vocabulary: are its captions really in it?")
        logger.info(
            "%s: %d tokens, %d known, %d new (%.1f%%)", lang, len(own), len(own) - added, added, 100 * added / len(own)
        )
    vocabulary.save(folder)
    write_dictionary(folder / "dict.txt", vocabulary)  # last: its presence says the folder is complete
    return vocabulary


def tokenizer(corpus: Corpus, languages: Sequence[str]) -> ClipTokenizer:
    """The tokenizer after learning `languages` in this order."""
    return ClipTokenizer(grown_vocabulary(corpus, languages))
