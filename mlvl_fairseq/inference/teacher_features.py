"""A teacher's features of a corpus, computed once: training then runs the student's text tower only."""

from typing import Callable, Sequence

import numpy as np
import torch

from mlvl_fairseq.data.corpus import SPLITS, Corpus
from mlvl_fairseq.data.feature_extraction import extract_image_features
from mlvl_fairseq.data.features import FeatureWriter
from mlvl_fairseq.data.images.reading import BadImagePolicy, ImageDataset
from mlvl_fairseq.data.images.transforms import ImageTransform
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.inference.encoder import Encoder

CHUNK = 8192  # rows encoded at a time; fixed, so that an interrupted extraction goes on with the same batches


def extract_teacher_features(
    corpus: Corpus,
    encoder: Encoder,
    batch_size: int = 256,
    num_workers: int = 0,
    policy: BadImagePolicy = BadImagePolicy(),
) -> None:
    """Encode the images and English sentences of every split; an interrupted extraction goes on where it was.

    Args:
        corpus: where the features are stored.
        encoder: the teacher.
        batch_size: sentences or images a batch.
        num_workers: processes that read images.
        policy: what to do about unreadable images.

    Raises:
        UserError: there are neither images nor image features. DataError: stored features are another teacher's.
    """
    for split in SPLITS:
        if split in corpus.manifest["splits"]:
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
            _extract_images(corpus, split, encoder, batch_size, num_workers, policy)


def _extract_images(corpus: Corpus, split: str, encoder: Encoder, batch_size, num_workers, policy) -> None:
    names = corpus.images(split)
    if corpus.has_features(split, "inputs"):
        inputs = corpus.features(split, "inputs")
        _write(corpus, split, "image", names, encoder, lambda rows: encoder.encode_features(inputs[rows]))
        return
    if encoder.vision is None:
        raise UserError(f"{encoder.source} has no image tower: give the {split} images' features with --image-features")
    if not corpus.manifest["image_root"]:
        raise UserError(f"{corpus.folder} does not know its images: make it with --image-root or --image-features")
    dataset = ImageDataset(corpus.manifest["image_root"], names, ImageTransform("clip", encoder.vision.image_size))
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
    )


def _write(
    corpus: Corpus, split: str, kind: str, names: Sequence[str], encoder: Encoder, encode: Callable[[slice], np.ndarray]
) -> None:
    """Store ``encode(rows)`` chunk by chunk from the first row that is not there yet."""
    stem = corpus.feature_stem(split, kind)
    with FeatureWriter(stem, names, encoder.embed_dim, encoder.source, encoder.fingerprint) as writer:
        for start in range(writer.rows_done, len(names), CHUNK):
            writer.write(encode(slice(start, start + CHUNK)))
