"""`mlvl-sentencepiece`: train a SentencePiece model and write it with its dictionary, as fairseq's XLM-R has them.

For encoders that are trained from scratch; with a released XLM-R its own two files are used.
"""

import argparse
from pathlib import Path
from typing import List, Optional

EPILOG = """\
examples:
  mlvl-sentencepiece spm --train train.de train.en --vocab-size 8000
  mlvl-encode --sentencepiece spm <train.de >bpe/train.de
  fairseq-preprocess -s de -t en --trainpref bpe/train --destdir fseq --srcdict spm/dict.txt --tgtdict spm/dict.txt
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", help="receives sentencepiece.bpe.model and dict.txt")
    parser.add_argument("--train", nargs="+", required=True, metavar="FILE", help="text, one sentence a line")
    parser.add_argument(
        "--vocab-size",
        type=int,
        required=True,
        metavar="N",
        help="pieces, SentencePiece's three special ones included; the dictionary has two entries more",
    )
    parser.add_argument(
        "--character-coverage",
        type=float,
        default=0.9995,
        metavar="P",
        help="share of the text's characters that get pieces; the rarest others become <unk> (default: %(default)s)",
    )
    return parser


def main(argv: Optional[List[str]] = None) -> None:
    args = build_parser().parse_args(argv)
    from mlvl_fairseq.data.text.sentencepiece import train_sentencepiece
    from mlvl_fairseq.process.locks import locked

    Path(args.folder).mkdir(parents=True, exist_ok=True)
    with locked(args.folder, wait=False):
        train_sentencepiece(args.train, args.folder, args.vocab_size, args.character_coverage)


def cli_main() -> None:
    from mlvl_fairseq.cli.common import run

    run(main)


if __name__ == "__main__":
    cli_main()
