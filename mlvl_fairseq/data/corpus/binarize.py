"""Captions to fairseq's memory-mapped token files, as ``fairseq-preprocess`` writes them."""

import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List, Sequence

import numpy as np
import torch
from fairseq.data import indexed_dataset
from tqdm import tqdm

from mlvl_fairseq.data.corpus.corpus import SPLITS, Corpus
from mlvl_fairseq.data.corpus.tokens import open_tokens
from mlvl_fairseq.data.corpus.vocabularies import english_counts_path, tokenizer, vocabulary_folder
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.files import atomic_path, write_json
from mlvl_fairseq.process.locks import locked

logger = logging.getLogger(__name__)

MAX_LENGTH = 77  # CLIP's context, and mCLIP's limit: BOS and EOS included
CHUNK = 10_000
REPORT = "lengths.json"


def binarized_folder(corpus: Corpus, vocabulary_languages: Sequence[str], lang: str) -> Path:
    return vocabulary_folder(corpus, vocabulary_languages) / lang


@dataclass(frozen=True)
class Cutting:
    """How captions become ids.

    Attributes:
        encode_batch: texts to ids, without BOS and EOS.
        eos: id of the end of a sentence. vocab_size: number of ids.
        dictionary: the ``dict.txt`` that belongs to the ids.
    """

    encode_batch: Callable[[Sequence[str]], List[List[int]]]
    eos: int
    vocab_size: int
    dictionary: Path


def binarize(corpus: Corpus, vocabulary_languages: Sequence[str], lang: str) -> Path:
    """Binarize the training and validation captions of `lang` with the vocabulary grown along a sequence of languages;
    see :func:`binarize_captions`."""
    corpus.require("train", lang)

    def cutting() -> Cutting:
        tokens = tokenizer(corpus, vocabulary_languages)
        dictionary = vocabulary_folder(corpus, vocabulary_languages) / "dict.txt"
        return Cutting(tokens.encode_batch, tokens.eos, len(tokens), dictionary)

    return binarize_captions(corpus, lang, binarized_folder(corpus, vocabulary_languages, lang), cutting)


def binarize_captions(corpus: Corpus, lang: str, folder: Path, cutting: Callable[[], Cutting]) -> Path:
    """Binarize the training and validation captions of `lang`.

    The files hold ids and a final EOS, no BOS, not truncated. Done once; a second call, or process, finds them.

    Returns:
        `folder` with ``train.bin``, ``train.idx``, ``valid.bin``, ``valid.idx``, ``dict.txt`` and ``lengths.json``.
    """
    if (folder / REPORT).exists():
        return folder
    with locked(corpus.folder):
        if not (folder / REPORT).exists():  # another process may have made it meanwhile
            _binarize(corpus, lang, folder, cutting())
    return folder


def _binarize(corpus: Corpus, lang: str, folder: Path, cutting: Cutting) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lengths = {
        split: _binarize_split(corpus.captions(split, lang), cutting, folder / split, f"{lang} {split}")
        for split in SPLITS[:2]
        if lang in corpus.languages(split)
    }
    shutil.copyfile(cutting.dictionary, folder / "dict.txt")
    for split, stats in lengths.items():
        if stats["truncated_percent"] >= 1:
            logger.warning(
                "%s %s: %.1f%% of the captions are longer than %d tokens and will be cut",
                lang,
                split,
                stats["truncated_percent"],
                MAX_LENGTH,
            )
    write_json(folder / REPORT, lengths)  # last: its presence says the folder is complete


def _binarize_split(captions, cutting: Cutting, prefix: Path, title: str) -> Dict[str, float]:
    """Write one split and return its token statistics."""
    temporary = prefix.with_name(f".{prefix.name}")
    builder = indexed_dataset.make_builder(
        indexed_dataset.data_file_path(str(temporary)), impl="mmap", vocab_size=cutting.vocab_size
    )
    lengths = []
    with tqdm(total=len(captions), desc=f"binarize {title}", unit=" captions") as bar:
        for start in range(0, len(captions), CHUNK):
            for ids in cutting.encode_batch(captions[start : start + CHUNK]):
                builder.add_item(torch.tensor(ids + [cutting.eos], dtype=torch.int32))
                lengths.append(len(ids) + 2)
            bar.update(min(CHUNK, len(captions) - start))
    builder.finalize(indexed_dataset.index_file_path(str(temporary)))
    for path in (indexed_dataset.data_file_path, indexed_dataset.index_file_path):
        os.replace(path(str(temporary)), path(str(prefix)))
    lengths = np.asarray(lengths)
    return {
        "captions": len(lengths),
        "mean_length": round(float(lengths.mean()), 2),
        "longest": int(lengths.max()),
        "truncated_percent": round(100 * float((lengths > MAX_LENGTH).mean()), 3),
    }


def count_tokens(corpus: Corpus, vocabulary_languages: Sequence[str], lang: str, vocab_size: int) -> np.ndarray:
    """int64 [vocab_size]: how often each token occurs in the training captions of `lang`, not truncated.

    Raises:
        DataError: the captions are not binarized, or were binarized with another vocabulary: an id is not in it.
    """
    prefix = binarized_folder(corpus, vocabulary_languages, lang) / "train"
    path = prefix.with_suffix(".bin")
    counts = np.bincount(np.memmap(path, open_tokens(prefix)._index.dtype, "r"), minlength=vocab_size)
    if len(counts) > vocab_size:
        raise DataError(f"holds token {len(counts) - 1}, the vocabulary ends at {vocab_size - 1}", path)
    return counts


def count_english_tokens(corpus: Corpus) -> np.ndarray:
    """int64 [CLIP's vocabulary]: how often each token of CLIP's occurs in the corpus's English training sentences.

    Counted once and kept; all 0 if the corpus has no English sentence.
    """
    path = english_counts_path(corpus)
    if not path.exists():
        with locked(corpus.folder):
            tokens, sentences = tokenizer(corpus, []), corpus.english("train")
            counts = np.zeros(len(tokens), np.int64)
            for start in range(0, len(sentences), CHUNK):
                ids = np.concatenate(tokens.encode_batch(sentences[start : start + CHUNK])).astype(np.int64)
                counts += np.bincount(ids, minlength=len(tokens))
            with atomic_path(path) as temporary, open(temporary, "wb") as file:
                np.save(file, counts)
    return np.load(path, allow_pickle=False)


def prepare_sequence(corpus: Corpus, languages: Sequence[str]) -> None:
    """Vocabulary and binarized captions of every step of a sequence of languages."""
    for step in range(1, len(languages) + 1):
        binarize(corpus, languages[:step], languages[step - 1])
