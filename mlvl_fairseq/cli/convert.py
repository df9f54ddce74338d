"""`mlvl-convert`: released files of other programs, checkpoints above all, as this plugin's."""

import argparse
import logging
from typing import List, Optional

from mlvl_fairseq.cli.conversions import CONVERSIONS

logger = logging.getLogger(__name__)

EPILOG = """\
examples:
  mlvl-convert mclip mclip_base.pt models/mclip --sentencepiece xlmr.base
  mlvl-evaluate --checkpoint models/mclip/trikd.pt --lang de --captions test.de.json --image-root images
  mlvl-convert lilt checkpoint_14.pth models/lilt --wordpiece bert-base-uncased
  mlvl-convert cclm model_state_epoch_29.th models/cclm --sentencepiece xlm-roberta-large
  mlvl-convert trim-vocabulary models/cclm/cclm.pt captions.txt models/cclm_small --held-out test.txt
  mlvl-convert wit-pixels iglue/datasets/wit/annotations/test_ar.jsonl data/wit --pixels images/wit_test
  mlvl-convert marvl iglue/datasets/marvl/zero_shot/annotations/*.jsonl data/marvl
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    formats = parser.add_subparsers(metavar="FORMAT", required=True)
    for name, conversion in sorted(CONVERSIONS.items()):
        own = formats.add_parser(name, help=conversion.help, description=conversion.description)
        conversion.add_inputs(own)
        own.add_argument("out", help="folder to write to")
        conversion.add_options(own)
        own.set_defaults(convert=conversion.convert)
    return parser


def main(argv: Optional[List[str]] = None) -> None:
    args = build_parser().parse_args(argv)
    from mlvl_fairseq.process.locks import alone_in

    with alone_in(args.out):
        path = args.convert(args)
    logger.info("written: %s", path)


def cli_main() -> None:
    from mlvl_fairseq.cli.common import run

    run(main)


if __name__ == "__main__":
    cli_main()
