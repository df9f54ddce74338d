"""`mlvl-encode`: captions on standard input to lines of tokens on standard output, for fairseq-preprocess."""

import argparse
import sys
from typing import List, Optional


def main(argv: Optional[List[str]] = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="mlvl-encode --vocabulary corpus/bin/en+de <captions.de >train.bpe"
    )
    parser.add_argument("--vocabulary", required=True, metavar="DIR", help="folder with vocab.json and merges.txt")
    args = parser.parse_args(argv)
    from mlvl_fairseq.data.tokenizer import ClipTokenizer, Vocabulary

    tokenizer = ClipTokenizer(Vocabulary.load(args.vocabulary))
    sys.stdin.reconfigure(encoding="utf-8")
    sys.stdout.reconfigure(encoding="utf-8")
    for line in sys.stdin:
        print(*tokenizer.tokens(line.rstrip("\n")))


def cli_main() -> None:
    from mlvl_fairseq.cli.common import run

    run(main)


if __name__ == "__main__":
    cli_main()
