"""The options that say where a model's images come from, for every command that needs them."""

import argparse
import os
from typing import Dict, List

from mlvl_fairseq.cli.common import not_negative, positive


def add_image_options(parser: argparse.ArgumentParser) -> None:
    images = parser.add_argument_group("images (one of both)")
    images.add_argument("--image-root", metavar="DIR", help="folder of the images")
    images.add_argument(
        "--image-features",
        metavar="FILE.npy",
        help="features of the images: what the model's image head takes, or "
        "features of the model's own space if it has no head",
    )
    images.add_argument("--image-list", metavar="FILE.txt", help="with --image-features: their image names, one a line")
    images.add_argument("--batch-size", type=positive, default=64, help="images a batch (default: %(default)s)")
    images.add_argument(
        "--num-workers", type=not_negative, default=0, help="processes that read images (default: %(default)s)"
    )


def check_image_options(args: argparse.Namespace) -> None:
    """Raises UserError: not exactly one source of images is given."""
    from mlvl_fairseq.errors import UserError

    if bool(args.image_root) == bool(args.image_features) or bool(args.image_list) != bool(args.image_features):
        raise UserError("give either --image-root DIR or --image-features FILE.npy with --image-list FILE.txt")


def encode_images(encoder, names: List[str], args: argparse.Namespace):
    """float32 [names, embed_dim] in the order of `names`."""
    if args.image_features:
        from mlvl_fairseq.data.feature_arrays import import_features

        return encoder.encode_features(import_features(args.image_features, args.image_list, names))
    return encoder.encode_image_files(args.image_root, names, args.batch_size, args.num_workers)


def image_source(args: argparse.Namespace) -> Dict[str, str]:
    """What identifies the images: their folder, or the sha256 of features and names."""
    from mlvl_fairseq.data.features import file_sha256

    if args.image_root:
        return {"image_root": os.path.abspath(args.image_root)}
    return {name: file_sha256(getattr(args, name)) for name in ("image_features", "image_list")}
