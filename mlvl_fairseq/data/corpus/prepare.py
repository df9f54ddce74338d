"""The steps of ``mlvl-prepare``. Each is done once; done again, it finds what is there."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Callable, Dict, Iterable, Iterator, Mapping, Optional, Sequence, Tuple

import numpy as np

from mlvl_fairseq.data.captions import CaptionTable
from mlvl_fairseq.data.captions.reading import LazyTables, tables_of_languages
from mlvl_fairseq.data.captions.selecting import count_duplicates, joined, without_images
from mlvl_fairseq.data.captions.table import MISSING_FEATURE
from mlvl_fairseq.data.corpus.binarize import binarize, is_binarized, steps_of_sequence
from mlvl_fairseq.data.corpus.build import build_corpus
from mlvl_fairseq.data.corpus.corpus import MANIFEST, SPLITS, Corpus
from mlvl_fairseq.data.corpus.vocabularies import (
    CorpusVocabulary,
    GivenVocabulary,
    GrownVocabulary,
    UnionVocabulary,
    has_language_vocabulary,
    language_vocabulary,
)
from mlvl_fairseq.data.feature_arrays import import_features, read_row_names
from mlvl_fairseq.data.features import FeatureWriter, source_of_first_rows
from mlvl_fairseq.data.images.policy import BadImagePolicy
from mlvl_fairseq.data.text import Tokenizer
from mlvl_fairseq.digests import file_sha256
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.process.parallel import in_processes

logger = logging.getLogger(__name__)


def build_from_files(
    folder,
    patterns: Mapping[str, Sequence[str]],
    languages: Sequence[str],
    image_lists: Mapping[str, str],
    english: Mapping[str, str],
    source_lang: Optional[str] = None,
    bpe_size: Optional[int] = None,
    image_root: Optional[str] = None,
    allow_outside_root: bool = False,
    drop_unpaired: bool = False,
    feature_lists: Optional[Mapping[str, str]] = None,
    file_splits: Mapping[str, str] = {},
    workers: int = 1,
    **reading,
) -> Corpus:
    """Read the caption files of all splits and write the corpus's text half, or add languages to it.

    Args:
        folder: the corpus folder.
        patterns: caption files by split, with ``{lang}`` where the language stands, or such as hold all of them; the
            captions of several follow one another.
        languages: of the files.
        image_lists, english: the same for image lists, and English sentences, of caption files that need or take one.
        source_lang, bpe_size, image_root, allow_outside_root, drop_unpaired: see :func:`build_corpus`.
        feature_lists: by split, lists of the images that have features; captions of others are left out and counted.
        file_splits: by split, the splits to read of files that hold several.
        workers: languages that are read at once.
        reading: see :func:`read_captions`.

    Raises:
        UserError: there are no files, one file is given for several languages, or see :func:`build_corpus`.
    """
    if not patterns:
        raise UserError("give caption files, e.g. --train 'data/train.{lang}.json'")
    root = image_root or (Corpus(folder).manifest["image_root"] if (Path(folder) / MANIFEST).exists() else None)
    splits = {}
    for split, given in patterns.items():
        files = [
            tables_of_languages(
                pattern,
                languages,
                option=f"--{split}",
                image_list=image_lists.get(split),
                english=english.get(split),
                image_root=root,
                allow_outside_root=allow_outside_root,
                split=split,
                file_splits=file_splits.get(split),
                **reading,
            )
            for pattern in given
        ]
        splits[split] = _joined(files, languages, reading)
    for split, path in (feature_lists or {}).items():
        if split in splits:
            splits[split] = _with_features(splits[split], path, root)
    return build_corpus(
        folder,
        splits,
        source_lang,
        bpe_size,
        image_root,
        allow_outside_root=allow_outside_root,
        drop_unpaired=drop_unpaired,
        workers=workers,
    )


def _joined(files: Sequence[LazyTables], languages: Sequence[str], reading: Mapping[str, object]) -> LazyTables:
    """The tables of several files as one; what a second file repeats is a repetition, too, where these are left out."""

    def read(lang: str) -> CaptionTable:
        table = joined([tables[lang] for tables in files])
        return count_duplicates(table, True) if len(files) > 1 and reading.get("drop_duplicates") else table

    return LazyTables(languages, read)


def _with_features(tables: LazyTables, path: str, root: Optional[str]) -> LazyTables:
    """The captions of images that a list of features names; the others are counted by the tables' policies."""
    listed = read_row_names(path, root)

    def read(lang: str) -> CaptionTable:
        table = tables[lang]
        missing = np.array([row for row, name in enumerate(table.images) if name not in listed], np.int64)
        problems = table.problems.later()
        kept = without_images(replace(table, problems=problems), missing, MISSING_FEATURE, f"in {path}")
        if problems:
            logger.warning("%s: %s", table.path, problems.summary())
            table.problems.add(problems)
        return replace(kept, problems=table.problems)

    return LazyTables(tables, read)


def store_image_features(
    corpus: Corpus, files: Mapping[str, str], lists: Mapping[str, str], policy: BadImagePolicy = BadImagePolicy()
) -> None:
    """Reorder given image features to the corpus's images and store them as the model's inputs.

    Args:
        files: ``.npy`` files by split. lists: text files with the names of their rows.
        policy: what to do about features that say nothing; with ``skip`` they are stored as zeros and listed.

    Raises:
        UserError: a split has one without the other. DataError: see :func:`import_features`.
    """
    if files.keys() != lists.keys():
        raise UserError("give one --image-list SPLIT=FILE.txt for every --image-features SPLIT=FILE.npy")
    for split, path in files.items():
        names = corpus.images(split)
        features, bad = import_features(path, lists[split], names, policy, corpus.manifest["image_root"])
        stem, dtype = corpus.feature_stem(split, "inputs"), features.dtype.name
        source = source_of_first_rows(stem, features) or file_sha256(path)
        with FeatureWriter(stem, names, features.shape[1], "given", source, dtype) as writer:
            writer.write(features[writer.rows_done :], bad[bad >= writer.rows_done] - writer.rows_done)


def prepare_vocabularies(
    corpus: Corpus,
    order: Sequence[str] = (),
    joint: Sequence[str] = (),
    oracle: Sequence[str] = (),
    workers: int = 1,
) -> None:
    """The BPE vocabulary of every language, and the source language's captions in CLIP's own vocabulary.

    Args:
        order: also what learning these languages one after another needs. joint: what training on them at once needs.
        oracle: one vocabulary of all of these, and their captions in it.
        workers: languages that are worked on at once.
    """
    missing = [lang for lang in corpus.languages("train") if not has_language_vocabulary(corpus, lang)]
    _run(lambda lang: _train_bpe(corpus, lang, workers < 2), missing, workers, "train BPE", len(missing))
    of_source = [corpus.source_lang] if corpus.source_lang in corpus.languages("train") else []
    _binarize([(GrownVocabulary(corpus), lang) for lang in of_source], 1, len(of_source))
    _binarize(steps_of_sequence(corpus, order), workers, len(order))
    _binarize([(GrownVocabulary(corpus, joint), lang) for lang in joint], workers, len(joint))
    _binarize([(UnionVocabulary(corpus, oracle), lang) for lang in oracle], workers, len(oracle))


def binarize_all(corpus: Corpus, tokenizer: Tokenizer, workers: int = 1) -> None:
    """The training and validation captions of all languages in the ids of a tokenizer that came with a model."""
    languages = dict.fromkeys(lang for split in SPLITS[:2] for lang in corpus.languages(split))
    vocabulary = GivenVocabulary(corpus, tokenizer)
    _binarize([(vocabulary, lang) for lang in languages], workers, len(languages))


def _binarize(work: Iterable[Tuple[CorpusVocabulary, str]], workers: int, total: int) -> None:
    """Captions of languages in vocabularies, several at once. The vocabularies themselves are made here, in order."""

    def made() -> Iterator[Tuple[CorpusVocabulary, str]]:
        for vocabulary, lang in work:
            if not is_binarized(vocabulary, lang):
                _ = vocabulary.tokenizer
                yield vocabulary, lang

    _run(lambda one: binarize(*one, workers < 2), made(), workers, "binarize", total)


def _train_bpe(corpus: Corpus, lang: str, progress: bool) -> None:
    language_vocabulary(corpus, lang, train=True, progress=progress)


def _run(function: Callable, items: Iterable, workers: int, title: str, total: int) -> None:
    """With a bar of the languages, where they have none of their own."""
    for _ in in_processes(function, items, workers, title if workers > 1 else "", total):
        pass


def by_split(entries: Sequence[str]) -> Dict[str, str]:
    """``["train=FILE", "valid=FILE"]`` -> files by split.

    Raises:
        UserError: an entry is not of that form.
    """
    pairs = [entry.partition("=") for entry in entries]
    for split, separator, _ in pairs:
        if split not in SPLITS or not separator:
            raise UserError(f"'{split}{separator}...': write train=FILE, valid=FILE or test=FILE")
    return {split: path for split, _, path in pairs}
