"""`mlvl-encode`: text on standard input to lines of tokens on standard output, for fairseq-preprocess."""

import argparse
import sys
from typing import Callable, List, Optional

EPILOG = """\
examples:
  mlvl-encode --vocabulary corpus/bin/en+de <captions.de >train.bpe
  mlvl-encode --sentencepiece xlmr_base <train.de >bpe/train.de
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    tokenizer = parser.add_mutually_exclusive_group(required=True)
    tokenizer.add_argument("--vocabulary", metavar="DIR", help="CLIP's tokens: folder with vocab.json and merges.txt")
    tokenizer.add_argument(
        "--sentencepiece", metavar="DIR", help="XLM-R's: folder with sentencepiece.bpe.model and dict.txt"
    )
    return parser


def tokens_of(args) -> Callable[[str], List[str]]:
    """The function from a line to its tokens that the options ask for."""
    if args.sentencepiece:
        from mlvl_fairseq.data.text.sentencepiece import SentencePieceTokenizer

        return SentencePieceTokenizer(args.sentencepiece).tokens
    from mlvl_fairseq.data.text import ClipTokenizer, Vocabulary

    return ClipTokenizer(Vocabulary.load(args.vocabulary)).tokens


def main(argv: Optional[List[str]] = None) -> None:
    tokens = tokens_of(build_parser().parse_args(argv))
    sys.stdin.reconfigure(encoding="utf-8")
    sys.stdout.reconfigure(encoding="utf-8")
    for line in sys.stdin:
        print(*tokens(line.rstrip("\n")))


def cli_main() -> None:
    from mlvl_fairseq.cli.common import run

    run(main)


if __name__ == "__main__":
    cli_main()
