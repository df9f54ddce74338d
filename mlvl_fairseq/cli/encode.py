"""`mlvl-encode`: text on standard input to lines of tokens on standard output, for fairseq-preprocess."""

import argparse
import sys
from typing import List, Optional

from mlvl_fairseq.errors import DataError

EPILOG = """\
examples:
  mlvl-encode --vocabulary corpus/bin/en+de <captions.de >train.bpe
  mlvl-encode --sentencepiece xlmr_base <train.de >bpe/train.de
"""


def build_parser() -> argparse.ArgumentParser:
    from mlvl_fairseq.data.text import tokenizer_kinds

    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = parser.add_mutually_exclusive_group(required=True)
    for kind in tokenizer_kinds():
        kinds.add_argument(f"--{kind.option}", metavar="DIR", help=kind.help)
    kinds.add_argument("--tokenizer", metavar="DIR", help="the folder of any of these, told by its files")
    return parser


def chosen_tokenizer(args):
    """The tokenizer that the options name."""
    from mlvl_fairseq.data.text import load_tokenizer, tokenizer_kinds

    for kind in tokenizer_kinds():
        if getattr(args, kind.option):
            return kind.load(getattr(args, kind.option))
    return load_tokenizer(args.tokenizer)


def main(argv: Optional[List[str]] = None) -> None:
    tokenizer = chosen_tokenizer(build_parser().parse_args(argv))
    sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")
    sys.stdout.reconfigure(encoding="utf-8")
    for number, line in enumerate(sys.stdin, 1):
        try:
            line.encode("utf-8")
        except UnicodeEncodeError:  # bytes that are not UTF-8, as surrogateescape shows them
            raise DataError("is not UTF-8; convert it first, e.g. with iconv", "standard input", number) from None
        print(*tokenizer.tokens(line.rstrip("\n")))


def cli_main() -> None:
    from mlvl_fairseq.cli.common import run

    run(main)


if __name__ == "__main__":
    cli_main()
