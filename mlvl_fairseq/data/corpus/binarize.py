"""Captions to fairseq's memory-mapped token files, as ``fairseq-preprocess`` writes them."""

import logging
from collections import Counter
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Sequence, Set, Tuple

import numpy as np
from tqdm import tqdm

from mlvl_fairseq.arrays import read_array, write_array
from mlvl_fairseq.data.corpus.corpus import SPLITS, Corpus
from mlvl_fairseq.data.corpus.vocabularies import (
    DICTIONARY_FILE,
    CorpusVocabulary,
    GrownVocabulary,
    english_counts_path,
)
from mlvl_fairseq.data.text import Tokenizer
from mlvl_fairseq.data.token_files import TokenWriter, open_tokens
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.files import write_json
from mlvl_fairseq.process.locks import locked

logger = logging.getLogger(__name__)

MAX_LENGTH = 77  # CLIP's context, and mCLIP's limit: BOS and EOS included
CHUNK = 1 << 16  # captions that are cut at once
COUNTED = 1 << 10  # sentences whose words are counted at once: they fit into a processor's cache
REPORT = "lengths.json"


def binarize(vocabulary: CorpusVocabulary, lang: str, progress: bool = True) -> Path:
    """Binarize the training and validation captions of `lang`.

    The files hold ids and a final EOS, no BOS, not truncated. Done once; a second call, or process, finds them.

    Args:
        progress: show a progress bar.

    Returns:
        ``vocabulary.binarized(lang)`` with ``train.bin``, ``train.idx``, ``valid.bin``, ``valid.idx`` (of the splits
        that have the language), ``dict.txt`` and ``lengths.json``.

    Raises:
        UserError: the corpus has no such captions.
    """
    folder, corpus = vocabulary.binarized(lang), vocabulary.corpus
    if is_binarized(vocabulary, lang):
        return folder
    splits = _splits_of(corpus, lang)
    with locked(corpus.folder):
        if not (folder / REPORT).exists():  # another process may have made it meanwhile
            _binarize(corpus, splits, lang, folder, vocabulary.tokenizer, progress)
    return folder


def is_binarized(vocabulary: CorpusVocabulary, lang: str) -> bool:
    """Whether the captions of `lang` are there already. Raises UserError: the corpus has no such captions."""
    return (vocabulary.binarized(lang) / REPORT).exists() or not _splits_of(vocabulary.corpus, lang)


def _splits_of(corpus: Corpus, lang: str) -> List[str]:
    splits = [split for split in SPLITS[:2] if lang in corpus.languages(split)]
    if not splits:
        corpus.require("train", lang)
    return splits


def _binarize(
    corpus: Corpus, splits: Sequence[str], lang: str, folder: Path, tokenizer: Tokenizer, progress: bool
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lengths = {
        split: _binarize_split(corpus.captions(split, lang), tokenizer, folder / split, f"{lang} {split}", progress)
        for split in splits
    }
    tokenizer.write_dictionary(folder / DICTIONARY_FILE)
    for split, stats in lengths.items():
        if stats["truncated"]:
            message = "%s %s: %d of %d captions are longer than %d tokens (the longest: %d): models see their beginning"
            counts = stats["truncated"], stats["captions"], MAX_LENGTH, stats["longest"]
            logger.warning(message, lang, split, *counts)
    write_json(folder / REPORT, lengths)  # last: its presence says the folder is complete


def _binarize_split(captions, tokenizer: Tokenizer, prefix: Path, title: str, bar: bool) -> Dict[str, float]:
    """Write one split and return its token statistics."""
    writer = TokenWriter(prefix, len(tokenizer))
    with tqdm(total=len(captions), desc=f"binarize {title}", unit=" captions", disable=not bar) as progress:
        for start in range(0, len(captions), CHUNK):
            ids, lengths = tokenizer.encode_joined(captions[start : start + CHUNK])
            writer.write(np.insert(ids, np.cumsum(lengths), tokenizer.eos), lengths + 1)
            progress.update(len(lengths))
    lengths = writer.finish() + 1  # with BOS
    return {
        "captions": len(lengths),
        "mean_length": round(float(lengths.mean()), 2),
        "longest": int(lengths.max()),
        "truncated": int((lengths > MAX_LENGTH).sum()),
        "truncated_percent": round(100 * float((lengths > MAX_LENGTH).mean()), 3),
    }


def count_tokens(
    vocabulary: CorpusVocabulary, lang: str, vocab_size: int, captions: Optional[np.ndarray] = None
) -> np.ndarray:
    """int64 [vocab_size]: how often each token occurs in the training captions of `lang`, not truncated.

    Args:
        captions: numbers of those that count; None: all.

    Raises:
        DataError: the captions are not binarized, or were binarized with another vocabulary: an id is not in it.
    """
    prefix = vocabulary.binarized(lang) / "train"
    path = prefix.with_suffix(".bin")
    data = open_tokens(prefix, vocab_size)
    tokens = np.memmap(path, data._index.dtype, "r")
    if captions is not None and len(captions) < len(data):
        counted = np.zeros(len(data), bool)
        counted[captions] = True
        tokens = tokens[np.repeat(counted, data.sizes)]
    counts = np.bincount(tokens, minlength=vocab_size)
    if len(counts) > vocab_size:
        raise DataError(f"holds token {len(counts) - 1}, the vocabulary ends at {vocab_size - 1}", path)
    return counts


def count_english_tokens(corpus: Corpus) -> np.ndarray:
    """int64 [CLIP's vocabulary]: how often each token of CLIP's occurs in the corpus's English training sentences, but
    for those that only captions without usable image have.

    Counted once and kept, if all are usable; all 0 if the corpus has no English sentence.
    """
    path, left_out = english_counts_path(corpus), _unused_english(corpus)
    if left_out:
        return _count_english(corpus, [s for row, s in enumerate(corpus.english("train")) if row not in left_out])
    if not path.exists():
        with locked(corpus.folder):
            write_array(path, _count_english(corpus, corpus.english("train")))
    size = len(GrownVocabulary(corpus).tokenizer)
    return read_array(path, ("int64",), (size,), "delete it: the next run counts again")


def _count_english(corpus: Corpus, sentences: Sequence[str]) -> np.ndarray:
    """A token never reaches over a space: each word is cut once, however often it occurs."""
    tokenizer, words = GrownVocabulary(corpus).tokenizer, Counter()
    for start in range(0, len(sentences), COUNTED):
        words.update(" ".join(sentences[start : start + COUNTED]).split(" "))
    ids, lengths = tokenizer.encode_joined(list(words))
    times = np.repeat(np.fromiter(words.values(), np.int64, len(words)), lengths)
    return np.bincount(ids, weights=times, minlength=len(tokenizer)).astype(np.int64)


def _unused_english(corpus: Corpus) -> Set[int]:
    """Rows of English training sentences that only captions without usable image have."""
    used, left_out = [], []
    for lang in corpus.languages("train"):
        rows, usable = corpus.rows("train", lang)[:, 1], corpus.usable("train", lang)
        used.append(rows[usable])
        left_out.append(np.delete(rows, usable))
    found = np.unique(np.concatenate(left_out))
    for rows in ([-1], *used) if len(found) else ():
        found = found[~np.isin(found, rows)]
    return set(found.tolist())


def steps_of_sequence(corpus: Corpus, languages: Sequence[str]) -> Iterator[Tuple[CorpusVocabulary, str]]:
    """What is cut with what in a sequence of languages."""
    for step in range(1, len(languages) + 1):
        yield GrownVocabulary(corpus, languages[:step]), languages[step - 1]
