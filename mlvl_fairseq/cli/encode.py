"""`mlvl-encode`: lines of text to lines of tokens, for fairseq-preprocess.

Standard input goes to standard output, or files to files of the same names in a folder. Files are checked whole (UTF-8,
and with --parallel equal length of both sides) before the first is written.
"""

import argparse
import sys
from functools import partial
from typing import List, Optional

EPILOG = """\
examples:
  mlvl-encode --vocabulary corpus/bin/en+de <captions.de >train.bpe
  mlvl-encode --sentencepiece xlmr_base <train.de >bpe/train.de
  mlvl-encode --wordpiece bert_base --cleaning lilt <captions.en >train.bpe
  mlvl-encode --sentencepiece xlmr_base --output-dir bpe --parallel train.de-en.de train.de-en.en
"""


def build_parser() -> argparse.ArgumentParser:
    from mlvl_fairseq.cli.common import add_dataclass_options
    from mlvl_fairseq.data.text import TextOptions, tokenizer_kinds

    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = parser.add_mutually_exclusive_group(required=True)
    for kind in tokenizer_kinds():
        kinds.add_argument(f"--{kind.option}", metavar="DIR", help=kind.help)
    kinds.add_argument("--tokenizer", metavar="DIR", help="the folder of any of these, told by its files")
    add_dataclass_options(parser, TextOptions)
    parser.add_argument("files", nargs="*", metavar="FILE", help="text, a sentence a line (default: standard input)")
    parser.add_argument("--output-dir", metavar="DIR", help="receives the tokens of each FILE, under its name")
    parser.add_argument(
        "--parallel", action="store_true", help="FILEs are pairs, the two sides of parallel text: as many lines each"
    )
    return parser


def chosen_tokenizer(args):
    """The tokenizer that the options name."""
    from mlvl_fairseq.data.text import TextOptions, load_tokenizer, tokenizer_kinds

    given = (kind.load(getattr(args, kind.option)) for kind in tokenizer_kinds() if getattr(args, kind.option))
    return TextOptions.prepare(args, next(given, None) or load_tokenizer(args.tokenizer))


def main(argv: Optional[List[str]] = None) -> None:
    from mlvl_fairseq.data.text_files import LONGEST_LINE, encode_files, require_text
    from mlvl_fairseq.errors import UserError

    args = build_parser().parse_args(argv)
    if bool(args.files) != bool(args.output_dir) or args.parallel and not args.files:
        raise UserError("FILEs and --output-dir go together, --parallel with both")
    tokenizer = chosen_tokenizer(args)
    if args.files:
        encode_files(tokenizer.tokens, args.files, args.output_dir, args.parallel)
        return
    sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")
    sys.stdout.reconfigure(encoding="utf-8")
    for number, line in enumerate(iter(partial(sys.stdin.readline, LONGEST_LINE + 1), ""), 1):
        require_text(line.rstrip("\n"), "standard input", number)
        print(*tokenizer.tokens(line.rstrip("\n")))


def cli_main() -> None:
    from mlvl_fairseq.cli.common import run

    run(main)


if __name__ == "__main__":
    cli_main()
