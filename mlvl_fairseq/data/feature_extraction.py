"""Image features from a model, in batches, resumable."""

from pathlib import Path
from typing import Callable, List, NamedTuple, Optional

import numpy as np
import torch
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from mlvl_fairseq.data.features import FeatureManifest, FeatureWriter, array_path
from mlvl_fairseq.data.images.reading import BadImagePolicy, ImageDataset, LoadedImage
from mlvl_fairseq.errors import DataError


class ImageBatch(NamedTuple):
    """Images of consecutive rows: `pixels` of those that loaded, ``[g, 3, H, W]``, and each row's problem or None."""

    pixels: Optional[torch.Tensor]
    problems: List[Optional[str]]


def collate_images(images: List[LoadedImage]) -> ImageBatch:
    """Stack the images that could be loaded."""
    loaded = [image.pixels for image in images if image.pixels is not None]
    return ImageBatch(torch.stack(loaded) if loaded else None, [image.problem for image in images])


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

    Returns:
        The finished manifest.

    Raises:
        DataError: an image cannot be loaded and `policy` does not allow it, or `FeatureWriter` refuses.
    """
    with FeatureWriter(stem, dataset.names, dim, model, weights_fingerprint, dtype, transform=transform) as writer:
        manifest = writer.manifest
        if manifest.bad_rows and policy.action == "error":
            raise DataError(
                f"{len(manifest.bad_rows)} bad images were skipped here before, the first is "
                f"'{dataset.names[manifest.bad_rows[0]]}'; delete the file to start over, or use --bad-image skip",
                array_path(stem),
            )
        rest = Subset(dataset, range(writer.rows_done, len(dataset)))
        batches = DataLoader(rest, batch_size, num_workers=num_workers, collate_fn=collate_images)
        with tqdm(total=len(dataset), initial=writer.rows_done, unit="image", desc=Path(stem).name) as progress:
            for batch in batches:
                bad = [index for index, problem in enumerate(batch.problems) if problem]
                for count, index in enumerate(bad, len(manifest.bad_rows) + 1):
                    policy.accept(batch.problems[index], count)
                writer.write(_encode_batch(batch, encode, dim), bad)
                progress.update(len(batch.problems))
    return manifest


def _encode_batch(batch: ImageBatch, encode: Callable[[torch.Tensor], torch.Tensor], dim: int) -> np.ndarray:
    """Features of a batch, ``[b, dim]``, with rows of zeros where an image did not load."""
    features = np.zeros((len(batch.problems), dim), dtype=np.float32)
    if batch.pixels is not None:
        good = [problem is None for problem in batch.problems]
        with torch.inference_mode():
            features[good] = encode(batch.pixels).float().cpu().numpy()
    return features
