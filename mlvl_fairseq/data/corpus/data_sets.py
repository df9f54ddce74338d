"""Several data sets in one corpus: joined from corpora of their own, and told apart by the folders of their images."""

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from mlvl_fairseq.codes import data_set_name
from mlvl_fairseq.data.captions import CaptionTable, Problems
from mlvl_fairseq.data.captions.reading import LazyTables
from mlvl_fairseq.data.corpus.build import build_corpus
from mlvl_fairseq.data.corpus.corpus import SPLITS, Corpus
from mlvl_fairseq.data.feature_manifest import FeatureManifest, read_feature_manifest
from mlvl_fairseq.data.features import FeatureWriter
from mlvl_fairseq.errors import UserError

CHUNK = 65_536  # rows of features copied at a time


def data_set_names(text: str) -> List[str]:
    """``"coco, cc3m"`` -> ``["coco", "cc3m"]``. Raises DataError: one is no name of a data set."""
    return [data_set_name(name.strip()) for name in text.split(",") if name.strip()]


def data_set_members(
    corpus: Corpus, split: str, captions: Mapping[str, np.ndarray], data_sets: Sequence[str]
) -> Dict[str, np.ndarray]:
    """Which captions are of which data set.

    Args:
        corpus, split: whose captions. captions: int64, those that take part, by language.
        data_sets: folders that image names begin with.

    Returns:
        data set -> int64, places among `captions`, one language behind the other, ascending; of another split than
        train it may be empty.

    Raises:
        UserError: not several different data sets, a caption is of none, or one has no training captions.
    """
    if len(data_sets) < 2 or len(set(data_sets)) < len(data_sets):
        raise UserError(f"--data-sets {','.join(data_sets)}: name several different data sets, e.g. coco,cc3m")
    masks = {
        name: np.concatenate([corpus.members(split, lang, name)[rows] for lang, rows in captions.items()])
        for name in data_sets
    }
    without = np.flatnonzero(~np.logical_or.reduce(list(masks.values())))
    if len(without):
        images = np.concatenate([corpus.rows(split, lang)[rows, 0] for lang, rows in captions.items()])
        image = corpus.images(split)[images[without[0]]]
        raise UserError(
            f"--data-sets {','.join(data_sets)}: {len(without):,} {split} captions are of none of them, the first of "
            f"image '{image}'; a data set is the folder that image names begin with"
        )
    members = {name: np.flatnonzero(mask) for name, mask in masks.items()}
    empty = [name for name, own in members.items() if not len(own)]
    if empty and split == "train":
        raise UserError(f"{corpus.folder}: no training captions in {', '.join(captions)} of {', '.join(empty)}")
    return members


def data_set_of_images(corpus: Corpus, split: str, data_sets: Sequence[str]) -> np.ndarray:
    """int64 [images]: the number of each image's data set among `data_sets`, -1: it is of none of them."""
    numbers = {name: number for number, name in enumerate(data_sets)}
    return np.array([numbers.get(name.partition("/")[0], -1) for name in corpus.images(split)], np.int64)


def join_corpora(folder, corpora: Sequence[Corpus], workers: int = 1) -> Corpus:
    """One corpus of several, each a data set of it: captions, images and features one behind the other.

    Image names get the name of their data set in front: the folder of its images, as it lies beside the others', or
    where nobody knows the images, the folder of its corpus. Called again when languages were added to all of them, it
    adds them.

    Args:
        folder: of the joined corpus. corpora: at least two, with the same training languages and settings.
        workers: languages that are joined at once.

    Raises:
        UserError: they do not go together, or see :func:`build_corpus`. DataError: features of different models.
    """
    if len(corpora) < 2:
        raise UserError("--join takes several corpora, e.g. --join coco cc3m")
    settings = [(c.source_lang, c.bpe_size, sorted(c.languages("train"))) for c in corpora]
    for corpus, own in zip(corpora, settings):
        if own != settings[0]:
            names = ("source language", "BPE size", "training languages")
            differ = [f"{name} {a} and {b}" for name, a, b in zip(names, settings[0], own) if a != b]
            raise UserError(f"{corpora[0].folder} and {corpus.folder} do not go together: {'; '.join(differ)}")
    root, prefixes = _data_set_folders(corpora)
    first = corpora[0]
    named = list(zip(corpora, prefixes))
    splits = {
        split: LazyTables(
            dict.fromkeys(lang for corpus in corpora for lang in corpus.languages(split)),
            partial(_joined_table, split, named),
        )
        for split in SPLITS
        if any(corpus.languages(split) for corpus in corpora)
    }
    joined = build_corpus(folder, splits, first.source_lang, first.bpe_size, root, workers=workers)
    for split in splits:
        for kind in ("inputs", "image", "text"):
            _join_features(
                joined, split, kind, [(corpus, prefix) for corpus, prefix in named if corpus.languages(split)]
            )
    return joined


def _data_set_folders(corpora: Sequence[Corpus]) -> Tuple[Optional[str], List[str]]:
    """The folder that all images are in, if it is known, and what their names begin with in each corpus.

    Raises:
        UserError: the data sets would have the same name.
    """
    roots = [corpus.manifest["image_root"] for corpus in corpora]
    root = os.path.commonpath(roots) if all(roots) else None
    prefixes = [os.path.relpath(own, root) if root else corpus.folder.name for own, corpus in zip(roots, corpora)]
    sets = [Path(prefix).parts[:1] for prefix in prefixes]
    if "." in prefixes or len(set(sets)) < len(sets):
        where = f"the folders of their images ({', '.join(roots)})" if root else f"{', '.join(prefixes)}"
        raise UserError(f"{where}: data sets need names of their own, such as images in coco/ and in cc3m/")
    for (name,) in sets:
        data_set_name(name)
    return root, prefixes


def _joined_table(split: str, corpora: Sequence[Tuple[Corpus, str]], lang: str) -> CaptionTable:
    """The captions of a split and language of all corpora, with the English sentences beside them, if all have one."""
    parts = [(corpus, prefix) for corpus, prefix in corpora if lang in corpus.languages(split)]
    captions: List[str] = []
    images: Dict[str, int] = {}
    image_rows: List[int] = []
    english: List[Optional[str]] = []
    for corpus, prefix in parts:
        names, sentences, rows = corpus.images(split), corpus.english(split), corpus.rows(split, lang)
        captions += corpus.captions(split, lang)
        image_rows += [images.setdefault(f"{prefix}/{names[row]}", len(images)) for row in rows[:, 0]]
        english += [sentences[row] if row >= 0 else None for row in rows[:, 1]]
    is_source = lang == parts[0][0].source_lang
    return CaptionTable(
        path=str(parts[0][0].captions_path(split, lang)),
        images=list(images),
        image_rows=np.array(image_rows, np.int32),
        captions=captions,
        english=None if is_source or None in english else english,
        lines=np.arange(1, len(captions) + 1, dtype=np.int32),
        unit="line",
        problems=Problems(),
    )


def _join_features(joined: Corpus, split: str, kind: str, parts: Sequence[Tuple[Corpus, str]]) -> None:
    """Copy features that all corpora have, in the order of the joined one."""
    if not all(corpus.has_features(split, kind) for corpus, _ in parts):
        return
    names = joined.english(split) if kind == "text" else joined.images(split)
    manifests = [read_feature_manifest(corpus.feature_stem(split, kind)) for corpus, _ in parts]
    arrays = [corpus.features(split, kind) for corpus, _ in parts]
    first = _only_one(manifests, parts, split, kind)
    places: Dict[str, Tuple[int, int]] = {}
    for number, (corpus, prefix) in enumerate(parts):
        own = corpus.english(split) if kind == "text" else [f"{prefix}/{name}" for name in corpus.images(split)]
        for row, name in enumerate(own):
            places.setdefault(name, (number, row))
    bad = [corpus.unusable(split, kind) for corpus, _ in parts]
    one_colour = [set(manifest.one_colour_rows) for manifest in manifests]
    stem, dtype = joined.feature_stem(split, kind), np.result_type(*arrays).name
    settings = {"transform": first.transform, "pictures": first.pictures, "precision": first.precision}
    with FeatureWriter(
        stem, names, first.shape[1], first.model, first.weights_fingerprint, dtype, **settings
    ) as writer:
        for chunk in _chunks([places[name] for name in names[writer.rows_done :]]):
            writer.write(
                np.stack([arrays[number][row] for number, row in chunk]),
                [place for place, (number, row) in enumerate(chunk) if bad[number][row]],
                [place for place, (number, row) in enumerate(chunk) if row in one_colour[number]],
            )


def _chunks(places: List[Tuple[int, int]]) -> Iterator[List[Tuple[int, int]]]:
    for start in range(0, len(places), CHUNK):
        yield places[start : start + CHUNK]


def _only_one(manifests: Sequence[FeatureManifest], parts, split: str, kind: str) -> FeatureManifest:
    """What all features have in common. Raises UserError: they are of different models. Given ones are of none."""

    def identity(manifest: FeatureManifest) -> tuple:
        weights = None if kind == "inputs" else manifest.weights_fingerprint
        return manifest.shape[1], manifest.transform, manifest.pictures, manifest.precision, weights

    first = manifests[0]
    for (corpus, _), manifest in zip(parts, manifests):
        if identity(manifest) != identity(first):
            raise UserError(
                f"{corpus.feature_stem(split, kind)}.npy ({manifest.model}) and {parts[0][0].folder}'s ({first.model}) "
                "are features of different models, or of pictures cut or read differently: extract them anew by one"
            )
    return replace(first)
