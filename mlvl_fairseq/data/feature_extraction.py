"""Image features from a model, in batches, resumable."""

import logging
import os
import shutil
from pathlib import Path
from typing import Callable, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm import tqdm

from mlvl_fairseq.data.feature_arrays import unusable_rows
from mlvl_fairseq.data.feature_manifest import FeatureManifest, array_path
from mlvl_fairseq.data.features import FeatureWriter
from mlvl_fairseq.data.images.policy import BadImagePolicy
from mlvl_fairseq.data.images.reading import ImageDataset, LoadedImage, tell_of_doubts
from mlvl_fairseq.errors import DataError

logger = logging.getLogger(__name__)
_SHARED = "/dev/shm"  # where data loading processes hand over what they have read


class ImageBatch(NamedTuple):
    """Images of consecutive rows: `pixels` of those that loaded, ``[g, 3, H, W]``, and each row's problem and doubt."""

    pixels: Optional[torch.Tensor]
    problems: List[Optional[str]]
    doubts: List[Optional[str]]


def collate_images(images: List[LoadedImage]) -> ImageBatch:
    """Stack the images that could be loaded."""
    loaded = [image.pixels for image in images if image.pixels is not None]
    problems, doubts = [image.problem for image in images], [image.doubt for image in images]
    return ImageBatch(torch.stack(loaded) if loaded else None, problems, doubts)


def encode_image_batch(batch: ImageBatch, names: Sequence[str], encode, dim: int) -> Tuple[np.ndarray, List[str]]:
    """Features of a batch, and what is wrong with its images.

    Args:
        names: of the images. encode: pixels ``[g, 3, H, W]`` -> features ``[g, dim]`` on any device.

    Returns:
        float32 ``[b, dim]``, zeros where an image did not load or its feature says nothing; problem or None of each.
    """
    features, problems = np.zeros((len(names), dim), dtype=np.float32), list(batch.problems)
    if batch.pixels is not None:
        good = np.array([problem is None for problem in problems])
        with torch.inference_mode():
            features[good] = torch.as_tensor(encode(batch.pixels)).float().cpu().numpy()
        for row in np.flatnonzero(good & unusable_rows(features) & np.isfinite(features).all(axis=1)):
            problems[row] = f"{names[row]}: its feature is the same number in every dimension"
            features[row] = 0
    return features, problems


def image_batches(images: Dataset, batch_size: int, num_workers: int, pin_memory: bool = False) -> DataLoader:
    """Batches of images in their order, read ahead by at most `num_workers` processes while others are encoded; with 0
    by this one. No more processes than there are batches to read, or than shared memory has room for.

    Args:
        images: give a `LoadedImage` each. pin_memory: see :func:`extract_image_features`.
    """
    batches = -(-len(images) // batch_size)
    workers = min(num_workers, batches) if batches > 1 else 0
    if workers:
        first = images[0].pixels
        ahead = 2 * batch_size * (first.nbytes if first is not None else 0)  # of each process, in shared memory
        room = shutil.disk_usage(_SHARED).free // ahead if ahead and os.path.isdir(_SHARED) else workers
        if room < workers:
            logger.info("%d of %d processes read pictures: %s has no room for more", room, workers, _SHARED)
        workers = min(workers, room)
    return DataLoader(images, batch_size, num_workers=workers, collate_fn=collate_images, pin_memory=pin_memory)


def extract_image_features(
    dataset: ImageDataset,
    encode: Callable[[torch.Tensor], torch.Tensor],
    stem,
    dim: int,
    model: str,
    weights_fingerprint: str,
    dtype: str = "float32",
    policy: BadImagePolicy = BadImagePolicy(),
    batch_size: int = 64,
    num_workers: int = 0,
    transform: Optional[str] = None,
    pictures: Optional[str] = None,
    precision: Optional[str] = None,
    pin_memory: bool = False,
) -> FeatureManifest:
    """Compute the features of all images of a dataset and write them to ``STEM.npy`` and ``STEM.json``.

    An interrupted extraction goes on where it stopped when called again with the same arguments.

    Args:
        dataset: the images; their names name the rows.
        encode: from pixels ``[b, 3, H, W]`` on the CPU to features ``[b, dim]`` on any device.
        stem: where to write (see `FeatureWriter`).
        dim: dimensions of a feature.
        model: name of the model, for people.
        weights_fingerprint: of the model's weights.
        dtype: ``float16`` or ``float32``.
        policy: what to do with images that cannot be loaded. The rows of skipped ones are zeros, listed in the
            manifest's ``bad_rows``.
        batch_size: images at a time.
        num_workers: processes that decode images; 0 decodes in this one.
        transform: the dataset's, where it is not the model's own.
        pictures: how they are read. precision: of the model's products; see :class:`FeatureManifest`.
        pin_memory: hand pixels over in memory from which a GPU copies while it computes.

    Returns:
        The finished manifest.

    Raises:
        DataError: an image cannot be loaded and `policy` does not allow it, or `FeatureWriter` refuses.
    """
    settings = {"transform": transform, "pictures": pictures, "precision": precision}
    with FeatureWriter(stem, dataset.names, dim, model, weights_fingerprint, dtype, **settings) as writer:
        manifest = writer.manifest
        if manifest.bad_rows and policy.action == "error":
            raise DataError(
                f"{len(manifest.bad_rows)} bad images were skipped here before, the first is "
                f"'{dataset.names[manifest.bad_rows[0]]}'; delete the file to start over, or use --bad-image skip",
                array_path(stem),
            )
        rest = Subset(dataset, range(writer.rows_done, len(dataset)))
        batches = image_batches(rest, batch_size, num_workers, pin_memory)
        with tqdm(total=len(dataset), initial=writer.rows_done, unit="image", desc=Path(stem).name) as progress:
            doubts: List[str] = []
            for batch in batches:
                names = dataset.names[writer.rows_done : writer.rows_done + len(batch.problems)]
                features, problems = encode_image_batch(batch, names, encode, dim)
                bad = [row for row, problem in enumerate(problems) if problem]
                for count, row in enumerate(bad, len(manifest.bad_rows) + 1):
                    policy.accept(problems[row], count)
                writer.write(features, bad, [row for row, doubt in enumerate(batch.doubts) if doubt])
                doubts += filter(None, batch.doubts)
                progress.update(len(names))
    names = [dataset.names[row] for row in manifest.one_colour_rows]
    tell_of_doubts(doubts or names, len(names), len(dataset), Path(stem).name)
    return manifest
