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
from mlvl_fairseq.data.feature_manifest import feature_manifest_path, read_feature_manifest
from mlvl_fairseq.data.feature_options import FeatureOptions
from mlvl_fairseq.data.features import FeatureWriter
from mlvl_fairseq.data.images.policy import BadImagePolicy
from mlvl_fairseq.data.images.reading import ImageDataset
from mlvl_fairseq.data.images.transforms import ImageTransform, reading_of
from mlvl_fairseq.data.text import Tokenizer
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.inference.encoder import PRECISIONS, Encoder, pad_right
from mlvl_fairseq.modules.towers.xlmr import PAD, XlmrEncoder

logger = logging.getLogger(__name__)
AUTOCAST = {"bf16": "bfloat16", "fp16": "float16"}  # what --autocast names, as manifests and torch call it
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
    options: FeatureOptions = FeatureOptions(),
) -> None:
    """Encode the images and English sentences of every split; an interrupted extraction goes on where it was.

    Args:
        corpus: where the features are stored.
        encoder: the teacher; it goes on with the `autocast` of the options.
        batch_size: sentences or images a batch.
        num_workers: processes that read images.
        policy: what to do about unreadable images.
        high_bit_depth: how pictures of more than 8 bits are read, see :class:`ImageTransform`.
        allow_outside_root: whether names of images may leave the image root.
        options: how features are computed and kept.

    Raises:
        UserError: there are neither images nor image features, or no images that a transform could cut.
        DataError: stored features are another teacher's, or were computed otherwise.
    """
    splits = [split for split in SPLITS if split in corpus.manifest["splits"]]
    if encoder.transform and all(corpus.has_features(split, "inputs") for split in splits):
        raise UserError(f"--transform {encoder.transform} cuts pictures, and {corpus.folder} holds image features only")
    encoder.autocast = PRECISIONS[AUTOCAST[options.autocast]] if options.autocast else None
    store = _Store(corpus, encoder, options)
    for split in splits:
        english = corpus.english(split)
        store.write(
            split,
            "text",
            english,
            lambda rows: encoder.encode_texts(
                english[rows], corpus.source_lang, batch_size, progress=f"{split} sentences"
            ),
        )
        if corpus.has_features(split, "inputs"):
            inputs, bad = corpus.features(split, "inputs"), corpus.unusable(split, "inputs")
            store.write(split, "image", corpus.images(split), lambda rows: encoder.encode_features(inputs[rows]), bad)
        else:
            store.write_pictures(split, batch_size, num_workers, policy, high_bit_depth, allow_outside_root)


def is_half(network: torch.nn.Module) -> bool:
    """Whether most weights of a network, which are float32 here, were float16 in its file: half precision has them
    exactly. (OpenAI's archives keep embeddings and norms in float32.)"""
    sizes = [(part.numel(), torch.equal(part, part.half().to(part.dtype))) for part in network.parameters()]
    return 2 * sum(size for size, exactly in sizes if exactly) > sum(size for size, _ in sizes)


class _Store:
    """Where what a teacher makes of a corpus is kept. Features that are there are continued in their own dtype, unless
    the options name one.

    Args: see :func:`extract_teacher_features`.
    """

    def __init__(self, corpus: Corpus, encoder: Encoder, options: FeatureOptions):
        self.corpus, self.encoder, self.options = corpus, encoder, options
        self._own_dtype = options.feature_dtype or ("float16" if is_half(encoder.network) else "float32")

    def _dtype(self, stem) -> str:
        there = feature_manifest_path(stem).exists() and not self.options.feature_dtype
        return read_feature_manifest(stem).dtype if there else self._own_dtype

    def write(
        self,
        split: str,
        kind: str,
        names: Sequence[str],
        encode: Callable[[slice], np.ndarray],
        bad: Optional[np.ndarray] = None,
        **settings: Optional[str],
    ) -> None:
        """Store ``encode(rows)`` chunk by chunk from the first row that is not there yet; `bad` rows as zeros."""
        stem, encoder = self.corpus.feature_stem(split, kind), self.encoder
        identity = encoder.embed_dim, encoder.source, encoder.fingerprint, self._dtype(stem)
        with FeatureWriter(stem, names, *identity, precision=AUTOCAST.get(self.options.autocast), **settings) as writer:
            for start in range(writer.rows_done, len(names), CHUNK):
                rows = slice(start, start + CHUNK)
                writer.write(encode(rows), () if bad is None else np.flatnonzero(bad[rows]))

    def write_pictures(
        self, split: str, batch_size: int, num_workers: int, policy: BadImagePolicy, high_bit_depth: str, outside: bool
    ) -> None:
        corpus, encoder, options = self.corpus, self.encoder, self.options
        names, root, stem = corpus.images(split), corpus.manifest["image_root"], corpus.feature_stem(split, "image")
        if encoder.network.preprocess is None:
            raise UserError(
                f"{encoder.source} has no image tower: give the {split} images' features with --image-features"
            )
        if not root:
            raise UserError(f"{corpus.folder} does not know its images: make it with --image-root or --image-features")
        transform = replace(encoder.preprocess, high_bit_depth=high_bit_depth, draft=options.draft_jpeg)
        pictures = reading_of(high_bit_depth, options.draft_jpeg)
        kept = self._kept_vectors(split, transform)
        if kept is not None:
            stored = kept.open(split, policy)
            logger.info("%s: vectors of its frozen image tower are there and need not be computed", split)

            def encode(rows: slice) -> np.ndarray:
                return encoder.encode_images(torch.from_numpy(np.array(stored.array[rows])))

            settings = {"transform": encoder.other_transform, "pictures": pictures}
            self.write(split, "image", names, encode, stored.unusable, **settings)
            return
        dataset = ImageDataset(root, names, transform, allow_outside=outside)
        dataset.folder.require_inside(names, corpus.images_path(split))
        extract_image_features(
            dataset,
            lambda pixels: torch.from_numpy(encoder.encode_images(pixels)),
            stem,
            encoder.embed_dim,
            encoder.source,
            encoder.fingerprint,
            self._dtype(stem),
            policy,
            batch_size,
            num_workers,
            transform=encoder.other_transform,
            pictures=pictures,
            precision=AUTOCAST.get(options.autocast),
            pin_memory=encoder.device.type == "cuda",
        )

    def _kept_vectors(self, split: str, transform: ImageTransform) -> Optional[CorpusImageVectors]:
        """What the image tower made of these pictures while the teacher was trained on it; None: there is no such, or
        it is to be made otherwise."""
        self.encoder.network.requires_grad_(False)
        tower = self.encoder.network.frozen_tower("image")
        if tower is None or self.options.autocast or self.options.draft_jpeg:
            return None
        kept = CorpusImageVectors(self.corpus, transform, tower.fingerprint)
        return kept if kept.is_finished(split) else None


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
