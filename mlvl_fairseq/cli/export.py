"""`mlvl-export`: trained models as files that other programs load, each with a proof that it gives the same numbers."""

import argparse
import logging
import sys
from pathlib import Path
from typing import List, Optional

from mlvl_fairseq.cli.common import add_dataclass_options, add_frozen_options, frozen_from, options_from

logger = logging.getLogger(__name__)

EPILOG = """\
examples:
  mlvl-export clip-hf runs/teir/35-hu/checkpoint_best.pt teir_hf --corpus corpus --scores scores/teir
  mlvl-export sentence-transformers runs/trikd/checkpoint_best.pt mclip_st --sentencepiece xlmr_base
  mlvl-export onnx runs/mla/01-de/checkpoint_best.pt mla_de --lang de
  mlvl-export xlmr runs/mte/stage2/checkpoint_best.pt mte --sentencepiece xlmr_base
"""


def build_parser(filled: Optional[str] = None) -> argparse.ArgumentParser:
    """Args: filled: the only format whose options are there; None: all have them, which takes seconds."""
    from mlvl_fairseq.export import known_exports

    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    formats = parser.add_subparsers(metavar="FORMAT", dest="format", required=True)
    for kind in known_exports():
        own = formats.add_parser(kind.name, help=kind.help, description=f"{kind.help[0].upper()}{kind.help[1:]}.")
        if filled in (None, kind.name):
            _add_options(own, kind)
    return parser


def _add_options(parser: argparse.ArgumentParser, kind) -> None:
    parser.add_argument("checkpoint", help="checkpoint of this plugin, official CLIP file, or an exported folder")
    parser.add_argument("out", help="folder to write to: new or empty, or one of an earlier export")
    add_dataclass_options(parser, kind.Options)
    card = parser.add_argument_group("model card")
    card.add_argument(
        "--scores",
        metavar="DIR",
        action="append",
        default=[],
        help="scores of this model for the card, of mlvl-evaluate --output-dir; may be given several times",
    )
    card.add_argument("--license", metavar="NAME", help="of the weights it was made of, as the Hub calls it: mit, ...")
    card.add_argument("--method", metavar="TEXT", help="how it was trained (default: what its run says)")
    add_frozen_options(parser)


def main(argv: Optional[List[str]] = None) -> None:
    argv = sys.argv[1:] if argv is None else [str(word) for word in argv]
    args = build_parser(next((word for word in argv if not word.startswith("-")), "")).parse_args(argv)
    from mlvl_fairseq.export import export_named
    from mlvl_fairseq.export.exporting import export_model
    from mlvl_fairseq.inference import Encoder

    kind = export_named(args.format)
    frozen = frozen_from(args)
    encoder = Encoder.load(args.checkpoint, device=getattr(args, "device", "cpu"), **frozen)
    export = kind(options_from(kind.Options, args), frozen)
    proof = export_model(export, encoder, Path(args.out), args.scores, args.license, args.method)
    print("\n".join(proof.lines()))
    logger.info("written: %s", args.out)


def cli_main() -> None:
    from mlvl_fairseq.cli.common import run

    run(main)


if __name__ == "__main__":
    cli_main()
