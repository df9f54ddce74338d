"""The options that say which model a command uses, and where its frozen files are. Families of networks name these
files themselves (:func:`mlvl_fairseq.inference.encoder.frozen_files`)."""

import argparse
from typing import Dict, Optional


def add_model_options(
    parser: argparse.ArgumentParser,
    checkpoint: str = "checkpoint of this plugin, official CLIP file or Hugging Face folder",
) -> None:
    """``--checkpoint``, ``--device``, and an option for every kind of frozen file."""
    parser.add_argument("--checkpoint", required=True, metavar="PATH", help=checkpoint)
    add_device_option(parser)
    add_frozen_options(parser)


def add_device_option(parser: argparse.ArgumentParser) -> None:
    """``--device``."""
    parser.add_argument("--device", default="cpu", help="where to compute, e.g. cuda (default: %(default)s)")


def add_frozen_options(parser: argparse.ArgumentParser, prefix: str = "", whose: str = "a checkpoint") -> None:
    """An option for every kind of frozen file.

    Args:
        prefix: before the options' names, where a command has two models or options of the same names.
        whose: whose files they are, in words.
    """
    from mlvl_fairseq.inference.encoder import frozen_files

    group = parser.add_argument_group(f"frozen files of {whose}, if they were moved since it was trained")
    for name, about in frozen_files().items():
        group.add_argument(f"--{prefix}{name.replace('_', '-')}", metavar="PATH", help=about)


def frozen_from(args: argparse.Namespace, prefix: str = "") -> Dict[str, Optional[str]]:
    """What :func:`add_frozen_options` asked for: name -> path, None where the file is where it was."""
    from mlvl_fairseq.inference.encoder import frozen_files

    return {name: getattr(args, f"{prefix}{name}".replace("-", "_")) for name in frozen_files()}


def load_encoder(args: argparse.Namespace):
    """The model of :func:`add_model_options`.

    Raises:
        DataError: its file is missing, damaged, refused, or of no known format.
        UserError: frozen weights differ, or an option is not for this kind of model.
    """
    from mlvl_fairseq.inference.encoder import Encoder

    return Encoder.load(args.checkpoint, device=args.device, **frozen_from(args))
