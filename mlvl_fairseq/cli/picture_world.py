"""mlvl-picture-world: draw a small multilingual picture world."""

import argparse
import logging
from pathlib import Path
from typing import List, Optional

from mlvl_fairseq.cli.common import language_order, run
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.picture_world import (
    ExampleSettings,
    StreamSettings,
    WorldSettings,
    get_language,
    language_codes,
    write_classes,
    write_examples,
    write_streams,
    write_world,
)
from mlvl_fairseq.process.locks import writing

logger = logging.getLogger(__name__)
ALL = "all"


def build_parser() -> argparse.ArgumentParser:
    default = WorldSettings()
    parser = argparse.ArgumentParser(
        prog="mlvl-picture-world",
        description="Draw pictures of a few coloured things, with captions in many languages: data to try things out.",
        epilog="Writes OUT_DIR/images/{train,valid,test}/NNNNN.png and, per language, {train,valid,test}.LANG.json "
        "and train.vision-en-LANG.tsv. The same settings give the same files. Languages may be added later. Codes from "
        "qaa to qav are constructed languages: generated, spoken by nobody. With --classes also OUT_DIR/classes: "
        "{train,valid,test}/COLOUR_KIND/NNN.png of 128 classes, and names.LANG.txt with what each is called. With "
        "--streams also OUT_DIR/streams: {train,valid}/{image_text,regions,parallel,monolingual}.jsonl and "
        "test/regions.jsonl. With --examples also OUT_DIR/examples: {entailment,questions,statements}/train.en.json(l),"
        " few, valid and test of each language.",
    )
    parser.add_argument(
        "out_dir", metavar="OUT_DIR", nargs="?", help="new folder, or a world of the same settings to complete"
    )
    parser.add_argument("--seed", type=int, default=default.seed, help="random seed (default: %(default)s)")
    for split in ("train", "valid", "test"):
        parser.add_argument(
            f"--{split}", type=int, metavar="N", default=getattr(default, split), help="pictures (default: %(default)s)"
        )
    parser.add_argument(
        "--classes",
        type=int,
        metavar="N",
        help="draw N training pictures, too, of each kind of thing in each colour, in folders of classes, and a tenth "
        "as many for validation and for a test",
    )
    parser.add_argument(
        "--languages",
        metavar="LANG,LANG,...",
        default=ALL,
        help=f"comma-separated codes, a named order such as order36, or {ALL} (default: %(default)s)",
    )
    _add_stream_options(parser)
    _add_example_options(parser)
    parser.add_argument("--list-languages", action="store_true", help="list the languages and exit")
    return parser


def _add_stream_options(parser: argparse.ArgumentParser) -> None:
    streams = parser.add_argument_group("streams of CCLM's pre-training")
    streams.add_argument(
        "--streams",
        metavar="LANG,LANG,...",
        help="write them, too: pictures and their regions with captions in these languages, which the other languages "
        "are not among; in validation as in training. The regions of test pictures have all languages",
    )
    streams.add_argument(
        "--pairs",
        metavar="LANG-LANG,...",
        help="languages between which parallel text translates (default: the first of --streams and each other one)",
    )
    streams.add_argument(
        "--parallel",
        type=int,
        metavar="N",
        default=StreamSettings.parallel,
        help="lines of parallel text, of things that no picture shows, and a tenth as many for validation "
        "(default: %(default)s)",
    )
    streams.add_argument(
        "--monolingual",
        type=int,
        metavar="N",
        default=StreamSettings.monolingual,
        help="training pictures, the last ones, that only have captions of the first language, in a stream of their "
        "own (default: %(default)s)",
    )
    streams.add_argument("--binary", action="store_true", help="put pictures into the lines, in base64")


def _add_example_options(parser: argparse.ArgumentParser) -> None:
    examples = parser.add_argument_group("examples to fine-tune on: texts about pictures with a label or an answer")
    examples.add_argument(
        "--examples",
        type=int,
        metavar="N",
        help="write them, too: hypotheses about a picture, entailed, contradicted or neutral (in the format of XVNLI); "
        "questions (GQA, xGQA: answers are English); statements about two pictures, true or false (NLVR2, MaRVL). "
        "About N of each in English about training pictures, and a tenth as many in each language about validation and "
        "about test pictures; N other such texts, of all three together, with translations from English as parallel "
        "text. A text alone does not tell its label",
    )
    examples.add_argument(
        "--few",
        type=int,
        metavar="N",
        default=ExampleSettings.few,
        help="examples of each kind in each other language about training pictures (default: %(default)s)",
    )


def _stream_settings(args: argparse.Namespace, languages: List[str]) -> StreamSettings:
    own = language_order(args.streams)
    others = [f"{own[0]}-{lang}" for lang in dict.fromkeys((*own, *languages)) if lang != own[0]]
    pairs = others if args.pairs is None else args.pairs.split(",")
    for pair in pairs:
        if pair.count("-") != 1:
            raise UserError(f"--pairs {pair}: give two languages, as en-de")
    return StreamSettings(own, [tuple(pair.split("-")) for pair in pairs], args.parallel, args.monolingual, args.binary)


def main(argv: Optional[List[str]] = None) -> None:
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.list_languages:
        for code in language_codes():
            print(f"{code:4} {get_language(code).name}")
        return
    if args.out_dir is None:
        parser.error("give a folder (or --list-languages)")
    languages = language_codes() if args.languages == ALL else language_order(args.languages)
    settings = WorldSettings(seed=args.seed, train=args.train, valid=args.valid, test=args.test)
    streams = _stream_settings(args, languages) if args.streams is not None else None
    Path(args.out_dir).absolute().parent.mkdir(parents=True, exist_ok=True)
    with writing(args.out_dir):  # a lock beside it: a new world's folder is empty
        written = write_world(args.out_dir, settings, languages)
        if args.classes is not None:
            written += write_classes(args.out_dir, args.seed, args.classes, languages)
        if streams is not None:
            written += write_streams(args.out_dir, settings, streams, languages)
        if args.examples is not None:
            written += write_examples(args.out_dir, settings, ExampleSettings(args.examples, args.few), languages)
    if written:
        logger.info("%s: wrote %d files and folders in %s", args.out_dir, len(written), ", ".join(languages))
    else:
        logger.info("%s is complete, nothing to do", args.out_dir)


def cli_main() -> None:
    run(main)


if __name__ == "__main__":
    cli_main()
