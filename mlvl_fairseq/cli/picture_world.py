"""mlvl-picture-world: draw a small multilingual picture world."""

import argparse
import logging
from typing import List, Optional

from mlvl_fairseq.cli.common import run
from mlvl_fairseq.data.picture_world import WorldSettings, language_codes, write_world

logger = logging.getLogger(__name__)


def build_parser() -> argparse.ArgumentParser:
    default = WorldSettings()
    parser = argparse.ArgumentParser(
        prog="mlvl-picture-world",
        description="Draw pictures of a few coloured things, with captions in many languages: data to try things out.",
        epilog="Writes OUT_DIR/images/{train,valid,test}/NNNNN.png and, per language, {train,valid,test}.LANG.json "
        "and train.vision-en-LANG.tsv. The same settings give the same files. Languages may be added later.",
    )
    parser.add_argument("out_dir", metavar="OUT_DIR", help="new folder, or a world of the same settings to complete")
    parser.add_argument("--seed", type=int, default=default.seed, help="random seed (default: %(default)s)")
    for split in ("train", "valid", "test"):
        parser.add_argument(
            f"--{split}", type=int, metavar="N", default=getattr(default, split), help="pictures (default: %(default)s)"
        )
    parser.add_argument(
        "--languages",
        metavar="LANG,LANG,...",
        type=lambda text: text.split(","),
        default=language_codes(),
        help=f"comma-separated codes (default: all, {','.join(language_codes())})",
    )
    return parser


def main(argv: Optional[List[str]] = None) -> None:
    args = build_parser().parse_args(argv)
    settings = WorldSettings(seed=args.seed, train=args.train, valid=args.valid, test=args.test)
    written = write_world(args.out_dir, settings, args.languages)
    if written:
        logger.info("%s: wrote %d files and folders in %s", args.out_dir, len(written), ", ".join(args.languages))
    else:
        logger.info("%s is complete, nothing to do", args.out_dir)


def cli_main() -> None:
    run(main)


if __name__ == "__main__":
    cli_main()
