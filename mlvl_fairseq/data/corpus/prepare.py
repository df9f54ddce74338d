"""The steps of ``mlvl-prepare``. Each is done once; done again, it finds what is there."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Dict, Mapping, Optional, Sequence

import numpy as np

from mlvl_fairseq.data.captions import CaptionTable, read_languages
from mlvl_fairseq.data.captions.selecting import count_duplicates, joined, without_images
from mlvl_fairseq.data.captions.table import MISSING_FEATURE
from mlvl_fairseq.data.corpus.binarize import binarize, prepare_sequence
from mlvl_fairseq.data.corpus.build import build_corpus
from mlvl_fairseq.data.corpus.corpus import MANIFEST, SPLITS, Corpus
from mlvl_fairseq.data.corpus.vocabularies import (
    GivenVocabulary,
    GrownVocabulary,
    UnionVocabulary,
    language_vocabulary,
)
from mlvl_fairseq.data.feature_arrays import import_features, read_row_names
from mlvl_fairseq.data.features import FeatureWriter, file_sha256, source_of_first_rows
from mlvl_fairseq.data.images.policy import BadImagePolicy
from mlvl_fairseq.data.text import Tokenizer
from mlvl_fairseq.errors import UserError

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
            read_languages(
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
        splits[split] = {lang: _joined([tables[lang] for tables in files], reading) for lang in languages}
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
    )


def _joined(tables: Sequence[CaptionTable], reading: Mapping[str, object]) -> CaptionTable:
    """The tables of several files as one; what a second file repeats is a repetition, too, where these are left out."""
    table = joined(tables)
    return count_duplicates(table, True) if len(tables) > 1 and reading.get("drop_duplicates") else table


def _with_features(tables: Dict[str, CaptionTable], path: str, root: Optional[str]) -> Dict[str, CaptionTable]:
    """The captions of images that a list of features names; the others are counted by the tables' policies."""
    listed, kept = read_row_names(path, root), {}
    for lang, table in tables.items():
        missing = np.array([row for row, name in enumerate(table.images) if name not in listed], np.int64)
        problems = table.problems.later()
        kept[lang] = replace(
            without_images(replace(table, problems=problems), missing, MISSING_FEATURE, f"in {path}"),
            problems=table.problems,
        )
        if problems:
            logger.warning("%s: %s", table.path, problems.summary())
            table.problems.add(problems)
    return kept


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
    corpus: Corpus, order: Sequence[str] = (), joint: Sequence[str] = (), oracle: Sequence[str] = ()
) -> None:
    """The BPE vocabulary of every language, and the source language's captions in CLIP's own vocabulary.

    Args:
        order: also what learning these languages one after another needs. joint: what training on them at once needs.
        oracle: one vocabulary of all of these, and their captions in it.
    """
    for lang in corpus.languages("train"):
        language_vocabulary(corpus, lang, train=True)
    if corpus.source_lang in corpus.languages("train"):
        binarize(GrownVocabulary(corpus), corpus.source_lang)
    prepare_sequence(corpus, order)
    for lang in joint:
        binarize(GrownVocabulary(corpus, joint), lang)
    for lang in oracle:
        binarize(UnionVocabulary(corpus, oracle), lang)


def binarize_all(corpus: Corpus, tokenizer: Tokenizer) -> None:
    """The training and validation captions of all languages in the ids of a tokenizer that came with a model."""
    vocabulary = GivenVocabulary(corpus, tokenizer)
    for lang in dict.fromkeys(lang for split in SPLITS[:2] for lang in corpus.languages(split)):
        binarize(vocabulary, lang)


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
