"""`mlvl-convert`: checkpoints of other programs as this plugin's."""

import argparse
import logging
from pathlib import Path
from typing import List, Optional

logger = logging.getLogger(__name__)

EPILOG = """\
examples:
  mlvl-convert mclip mclip_base.pt models/mclip --sentencepiece xlmr.base
  mlvl-evaluate --checkpoint models/mclip/trikd.pt --lang de --captions test.de.json --image-root images
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_mclip(parser.add_subparsers(metavar="FORMAT", required=True))
    return parser


def add_mclip(formats) -> None:
    parser = formats.add_parser(
        "mclip",
        help="mclip_base.pt and mclip_plus_base.pt as released",
        description="A released checkpoint of mCLIP (Chen et al. 2023) as projectors of model trikd, its text encoder "
        "and its CLIP: OUT/trikd.pt, OUT/mte.pt, OUT/clip.pt. Nothing in the file is executed.",
    )
    parser.add_argument("checkpoint", help="mclip_base.pt or mclip_plus_base.pt")
    parser.add_argument("out", help="folder to write to")
    parser.add_argument(
        "--sentencepiece",
        required=True,
        metavar="FOLDER",
        help="XLM-R's folder with sentencepiece.bpe.model and dict.txt",
    )
    parser.add_argument("--mte", metavar="PATH", help="the text encoder to use, where the file does not hold it")
    parser.add_argument("--clip", metavar="PATH", help="the CLIP to use, where the file does not hold it")
    parser.add_argument(
        "--activation",
        choices=("quick_gelu", "gelu"),
        help="of --clip, where its file does not say it: quick_gelu (OpenAI's) or gelu (most of open_clip's)",
    )
    parser.set_defaults(convert=convert)


def convert(args) -> None:
    from mlvl_fairseq.checkpoints.formats.mclip import convert_mclip
    from mlvl_fairseq.process.locks import locked

    Path(args.out).mkdir(parents=True, exist_ok=True)
    with locked(args.out, wait=False):
        path = convert_mclip(args.checkpoint, args.out, args.sentencepiece, args.mte, args.clip, args.activation)
    logger.info("written: %s", path)


def main(argv: Optional[List[str]] = None) -> None:
    args = build_parser().parse_args(argv)
    args.convert(args)


def cli_main() -> None:
    from mlvl_fairseq.cli.common import run

    run(main)


if __name__ == "__main__":
    cli_main()
