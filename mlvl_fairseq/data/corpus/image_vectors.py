"""What a frozen image tower makes of the pictures of a corpus, a vector each, in one memory-mapped file a split."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import torch

from mlvl_fairseq.data.corpus.corpus import Corpus
from mlvl_fairseq.data.feature_extraction import extract_image_features
from mlvl_fairseq.data.feature_manifest import array_path
from mlvl_fairseq.data.features import StoredFeatures, is_finished, read_features
from mlvl_fairseq.data.images.policy import BadImagePolicy
from mlvl_fairseq.data.images.reading import ImageDataset
from mlvl_fairseq.data.images.transforms import ImageTransform, reading_of
from mlvl_fairseq.errors import DataError


@dataclass(frozen=True)
class CorpusImageVectors:
    """Vectors of all pictures of a corpus in ``features/SPLIT.image-vectors-<key>``, float32.

    Args:
        corpus: whose pictures. transform: what makes them the tower's input, and how they are read.
        encoder: fingerprint of the tower.
    """

    corpus: Corpus
    transform: ImageTransform
    encoder: str

    @property
    def key(self) -> str:
        """SHA-256 (hex) of all that the vectors depend on beside the pictures."""
        parts = (self.encoder, self.transform, self.transform.high_bit_depth)
        return hashlib.sha256(" ".join(map(str, parts)).encode()).hexdigest()

    def stem(self, split: str) -> Path:
        return self.corpus.feature_stem(split, f"image-vectors-{self.key[:12]}")

    def is_finished(self, split: str) -> bool:
        """Whether there is nothing left to compute."""
        return is_finished(self.stem(split), self.corpus.images(split))

    def write(
        self,
        split: str,
        encode: Callable[[torch.Tensor], torch.Tensor],
        width: int,
        model: str,
        root: str,
        allow_outside: bool = False,
        policy: BadImagePolicy = BadImagePolicy(),
        num_workers: int = 0,
    ) -> None:
        """Encode the pictures of a split; an interrupted extraction goes on where it was.

        Args:
            encode: pixels [b, 3, H, W] -> vectors [b, width]. model: name of the tower, for people.
            root: folder of the pictures. allow_outside: whether names may leave it.
            policy: what to do about pictures that cannot be read. num_workers: processes that read them.

        Raises:
            DataError: a picture cannot be read, and `policy` does not allow it. UserError: there is no room.
        """
        names = self.corpus.images(split)
        dataset = ImageDataset(root, names, self.transform, allow_outside=allow_outside)
        dataset.folder.require_inside(names, self.corpus.images_path(split))
        extract_image_features(
            dataset,
            encode,
            self.stem(split),
            width,
            model,
            self.key,
            policy=policy,
            num_workers=num_workers,
            transform=str(self.transform),
            pictures=reading_of(self.transform.high_bit_depth),
        )

    def open(self, split: str, policy: BadImagePolicy = BadImagePolicy()) -> StoredFeatures:
        """Stored vectors of a split.

        Raises:
            DataError: they are damaged, unfinished, or there are pictures among them that `policy` does not allow.
        """
        names = self.corpus.images(split)
        stored = read_features(self.stem(split), expect_row_names=names, expect_fingerprint=self.key)
        bad = stored.manifest.bad_rows
        if bad and policy.action == "error":
            raise DataError(
                f"{len(bad)} pictures could not be read, the first is '{names[bad[0]]}' (--bad-image skip goes on "
                "without such pictures and their captions)",
                array_path(self.stem(split)),
            )
        policy.accept_all([f"{names[row]}: could not be read when its vector was computed" for row in bad])
        return stored
