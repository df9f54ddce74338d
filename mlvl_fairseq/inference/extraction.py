"""Features and states of a corpus, computed once: training then runs only what trains."""

import logging
from dataclasses import replace
from typing import Callable, List, Optional, Sequence

import numpy as np
import torch

from mlvl_fairseq.checkpoints.formats.xlmr import read_xlmr
from mlvl_fairseq.data.corpus import SPLITS, Corpus
from mlvl_fairseq.data.corpus.image_vectors import CorpusImageVectors
from mlvl_fairseq.data.corpus.text_states import CorpusStates
from mlvl_fairseq.data.corpus.vocabularies import GivenVocabulary
from mlvl_fairseq.data.feature_extraction import extract_image_features
from mlvl_fairseq.data.features import FeatureWriter
from mlvl_fairseq.data.images.policy import BadImagePolicy
from mlvl_fairseq.data.images.reading import ImageDataset
from mlvl_fairseq.data.images.transforms import reading_of
from mlvl_fairseq.data.text import Tokenizer
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.inference.encoder import Encoder, pad_right
from mlvl_fairseq.modules.towers.xlmr import PAD, XlmrEncoder

logger = logging.getLogger(__name__)
STATES_BATCH = 64
CHUNK = 8192  # rows encoded at a time; fixed, so that an interrupted extraction goes on with the same batches


def extract_teacher_features(
    corpus: Corpus,
    encoder: Encoder,
    batch_size: int = 256,
    num_workers: int = 0,
    policy: BadImagePolicy = BadImagePolicy(),
    high_bit_depth: str = "clip",
    allow_outside_root: bool = False,
) -> None:
    """Encode the images and English sentences of every split; an interrupted extraction goes on where it was.

    Args:
        corpus: where the features are stored.
        encoder: the teacher.
        batch_size: sentences or images a batch.
        num_workers: processes that read images.
        policy: what to do about unreadable images.
        high_bit_depth: how pictures of more than 8 bits are read, see :class:`ImageTransform`.
        allow_outside_root: whether names of images may leave the image root.

    Raises:
        UserError: there are neither images nor image features, or no images that a transform could cut.
        DataError: stored features are another teacher's.
    """
    splits = [split for split in SPLITS if split in corpus.manifest["splits"]]
    if encoder.transform and all(corpus.has_features(split, "inputs") for split in splits):
        raise UserError(f"--transform {encoder.transform} cuts pictures, and {corpus.folder} holds image features only")
    for split in splits:
        english = corpus.english(split)
        _write(
            corpus,
            split,
            "text",
            english,
            encoder,
            lambda rows: encoder.encode_texts(
                english[rows], corpus.source_lang, batch_size, progress=f"{split} sentences"
            ),
        )
        _extract_images(corpus, split, encoder, batch_size, num_workers, policy, high_bit_depth, allow_outside_root)


def _extract_images(
    corpus: Corpus, split: str, encoder: Encoder, batch_size, num_workers, policy, high_bit_depth, allow_outside_root
) -> None:
    names = corpus.images(split)
    if corpus.has_features(split, "inputs"):
        inputs, bad = corpus.features(split, "inputs"), corpus.unusable(split, "inputs")
        _write(corpus, split, "image", names, encoder, lambda rows: encoder.encode_features(inputs[rows]), bad)
        return
    if encoder.network.preprocess is None:
        raise UserError(f"{encoder.source} has no image tower: give the {split} images' features with --image-features")
    if not corpus.manifest["image_root"]:
        raise UserError(f"{corpus.folder} does not know its images: make it with --image-root or --image-features")
    transform = replace(encoder.preprocess, high_bit_depth=high_bit_depth)
    settings = {"transform": encoder.other_transform, "pictures": reading_of(high_bit_depth)}
    kept = _kept_vectors(corpus, split, encoder, transform)
    if kept is not None:
        stored = kept.open(split, policy)
        logger.info("%s: vectors of its frozen image tower are there and need not be computed", split)

        def encode(rows: slice) -> np.ndarray:
            return encoder.encode_images(torch.from_numpy(np.array(stored.array[rows])))

        _write(corpus, split, "image", names, encoder, encode, stored.unusable, **settings)
        return
    dataset = ImageDataset(corpus.manifest["image_root"], names, transform, allow_outside=allow_outside_root)
    dataset.folder.require_inside(names, corpus.images_path(split))
    extract_image_features(
        dataset,
        lambda pixels: torch.from_numpy(encoder.encode_images(pixels)),
        corpus.feature_stem(split, "image"),
        encoder.embed_dim,
        encoder.source,
        encoder.fingerprint,
        policy=policy,
        batch_size=batch_size,
        num_workers=num_workers,
        **settings,
    )


def _kept_vectors(corpus: Corpus, split: str, encoder: Encoder, transform) -> Optional[CorpusImageVectors]:
    """What the image tower made of these pictures while the teacher was trained on it; None: there is no such."""
    encoder.network.requires_grad_(False)
    tower = encoder.network.frozen_tower("image")
    if tower is None:
        return None
    kept = CorpusImageVectors(corpus, transform, tower.fingerprint)
    return kept if kept.is_finished(split) else None


def _write(
    corpus: Corpus,
    split: str,
    kind: str,
    names: Sequence[str],
    encoder: Encoder,
    encode: Callable[[slice], np.ndarray],
    bad: Optional[np.ndarray] = None,
    **settings: Optional[str],
) -> None:
    """Store ``encode(rows)`` chunk by chunk from the first row that is not there yet; rows that are `bad` as zeros."""
    stem = corpus.feature_stem(split, kind)
    with FeatureWriter(stem, names, encoder.embed_dim, encoder.source, encoder.fingerprint, **settings) as writer:
        for start in range(writer.rows_done, len(names), CHUNK):
            rows = slice(start, start + CHUNK)
            writer.write(encode(rows), () if bad is None else np.flatnonzero(bad[rows]))


def store_text_states(
    corpus: Corpus,
    tokenizer: Tokenizer,
    mte,
    max_length: int,
    device: str = "cpu",
    train_langs: Optional[Sequence[str]] = None,
) -> None:
    """Encode training and validation captions, which are binarized already.

    Args:
        corpus, tokenizer: the captions, and how they were cut.
        mte: what :func:`read_xlmr` reads.
        max_length: longest caption, ``<s>`` and ``</s>`` included. device: where to compute.
        train_langs: languages whose training captions are encoded; None: all. Validation captions always are.

    Raises:
        UserError: encoder, tokenizer and length do not fit together, or the corpus lacks a language.
        DataError: see :func:`read_xlmr`.
    """
    weights = read_xlmr(mte)
    weights.require_vocabulary(len(tokenizer))
    weights.require_positions(max_length)
    encoder = weights.encoder().to(device).eval()
    states = CorpusStates(GivenVocabulary(corpus, tokenizer), max_length, weights.fingerprint)

    def encode(captions: List[List[int]]) -> List[np.ndarray]:
        return encode_states(encoder, captions)

    train, valid = SPLITS[:2]
    langs = {train: train_langs or corpus.languages(train), valid: corpus.languages(valid)}
    for lang in langs[train]:
        corpus.require(train, lang)
    for split in langs:
        for lang in langs[split]:
            states.write(split, lang, encode, weights.config.width, str(mte))


@torch.no_grad()
def encode_states(encoder: XlmrEncoder, captions: List[List[int]]) -> List[np.ndarray]:
    """Ids with BOS and EOS -> states [T, width] of each, float32; captions of like length share a batch."""
    device, states = encoder.embed_tokens.weight.device, [np.empty(0)] * len(captions)
    order = np.argsort([len(ids) for ids in captions], kind="stable")
    for start in range(0, len(order), STATES_BATCH):
        rows = order[start : start + STATES_BATCH]
        tokens, ends = pad_right([captions[row] for row in rows], PAD)
        for row, end, own in zip(rows, ends, encoder(tokens.to(device)).cpu().numpy()):
            states[row] = own[: end + 1]
    return states
