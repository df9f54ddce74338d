"""`mlvl-search`: pictures are found by words of any language, by pictures, and without what is not wanted.

An index is a folder beside the pictures, which stay where they are. `index` makes it and brings it up to date, `query`
asks it, `remove` takes pictures out, `compact` gives room back, `serve` shows a page.
"""

import argparse
import json
import logging
import shlex
import sys
from typing import Callable, Dict, List, Optional

from mlvl_fairseq.cli.common import (
    add_dataclass_options,
    add_device_option,
    add_frozen_options,
    add_model_options,
    frozen_from,
    options_from,
    positive,
    run,
)

logger = logging.getLogger(__name__)

EPILOG = """\
examples:
  mlvl-search index photos photos.index --checkpoint checkpoint_best.pt
  mlvl-search index photos photos.index                # later: new pictures are added, those that are gone removed
  mlvl-search query photos.index "ein Hund im Schnee" --lang de
  mlvl-search query photos.index 'Hund -Schnee -"am Meer"'  # a dash: not this
  mlvl-search query photos.index --image dog.jpg --json
  mlvl-search remove photos.index 'private/*'
  mlvl-search compact photos.index                     # after many changes
  mlvl-search serve photos.index
"""


COMMANDS: Dict[str, Callable[[argparse.ArgumentParser], None]] = {}


def _command(function: Callable[[argparse.ArgumentParser], None]) -> Callable[[argparse.ArgumentParser], None]:
    """Decorator: what gives a command, named like the function, its options; its docstring is the command's help."""
    COMMANDS[function.__name__.removeprefix("_add_")] = function
    return function


def build_parser(only: Optional[str] = None) -> argparse.ArgumentParser:
    """The parser; with the options of one command `only`: some take importing torch to know."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, add_options in COMMANDS.items():
        command = commands.add_parser(name, help=add_options.__doc__, description=add_options.__doc__)
        if only in (None, name):
            add_options(command)
    return parser


@_command
def _add_index(parser: argparse.ArgumentParser) -> None:
    """make an index, or bring it up to date with its pictures"""
    from mlvl_fairseq.search.building import IndexOptions
    from mlvl_fairseq.search.engines import engine_names

    parser.set_defaults(main=index)
    parser.add_argument("images", metavar="IMAGES", help="a folder, a list (.txt), archives, or a corpus folder")
    parser.add_argument("out", metavar="OUT", help="the index folder")
    add_model_options(parser, "the model; needed once, an index knows its model")
    _not_needed(parser, "--checkpoint")
    add_dataclass_options(parser, IndexOptions)
    _add_engine(parser, engine_names())


@_command
def _add_query(parser: argparse.ArgumentParser) -> None:
    """print the pictures that are most like words or a picture"""
    from mlvl_fairseq.search.engines import engine_names

    parser.set_defaults(main=query)
    parser.add_argument("out", metavar="OUT", help="the index folder")
    parser.add_argument("words", nargs="?", default="", metavar="WORDS", help="what is searched; -WORD: without it")
    parser.add_argument("--lang", help="language of the words, for models that need it")
    parser.add_argument("--image", metavar="FILE", help="search by a picture; with words, by both")
    parser.add_argument("--like", type=int, metavar="ROW", help="search by a picture of the index, by its number")
    parser.add_argument("-k", type=positive, default=10, help="how many pictures (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    _add_opening(parser, engine_names())


@_command
def _add_remove(parser: argparse.ArgumentParser) -> None:
    """take pictures out of an index for good; their files stay"""
    parser.set_defaults(main=remove)
    parser.add_argument("out", metavar="OUT", help="the index folder")
    parser.add_argument("patterns", nargs="+", metavar="NAME", help="of pictures, as query prints it; * and ? are any")
    parser.add_argument("--back", action="store_true", help="put back what was removed so")


@_command
def _add_compact(parser: argparse.ArgumentParser) -> None:
    """give the room of pictures that are gone back, and join small parts; numbers of pictures stay what they are"""
    from mlvl_fairseq.search.engines import engine_names

    parser.set_defaults(main=compact)
    parser.add_argument("out", metavar="OUT", help="the index folder; it can be searched meanwhile")
    _add_engine(parser, engine_names())


@_command
def _add_serve(parser: argparse.ArgumentParser) -> None:
    """show a page that searches an index (needs the extra [search])"""
    from mlvl_fairseq.search.engines import engine_names
    from mlvl_fairseq.search.serving.options import ServeOptions

    parser.set_defaults(main=serve)
    parser.add_argument("out", metavar="OUT", help="the index folder")
    add_dataclass_options(parser, ServeOptions)
    _add_opening(parser, engine_names())


def _add_opening(parser: argparse.ArgumentParser, engines: List[str]) -> None:
    """What is needed to search an index."""
    parser.add_argument("--checkpoint", metavar="PATH", help="the model of the index, if it was moved")
    add_device_option(parser)
    add_frozen_options(parser)
    parser.add_argument(
        "--rerank",
        type=int,
        default=24,
        metavar="N",
        help="a model with a fusion encoder puts the N best pictures in order; 0: it does not (default: %(default)s)",
    )
    _add_engine(parser, engines)


def _add_engine(parser: argparse.ArgumentParser, engines: List[str]) -> None:
    parser.add_argument("--engine", choices=engines, help="how to search (default: by the number of pictures)")
    parser.add_argument("--uri", help="of an engine that is a server or a file of its own")


def _not_needed(parser: argparse.ArgumentParser, option: str) -> None:
    parser._option_string_actions[option].required = False


def main(argv: Optional[List[str]] = None) -> None:
    given = sys.argv[1:] if argv is None else argv
    args = build_parser(given[0] if given and given[0] in COMMANDS else "").parse_args(given)
    args.main(args)


def index(args: argparse.Namespace) -> None:
    from mlvl_fairseq.search.building import IndexOptions, prepare_engine, update_index
    from mlvl_fairseq.search.engines import agreement
    from mlvl_fairseq.search.sources import source_of

    source = source_of(args.images)
    model, frozen = _model(args)
    changes = update_index(args.out, source, model.encoder, options_from(IndexOptions, args), frozen)
    logger.info("%s: %s", source.path, changes)
    engine = prepare_engine(args.out, args.engine, args.uri)
    if not engine.exact:
        share = agreement(engine)
        logger.info("--engine %s finds %.1f %% of the ten best of 20 pictures, asked again", engine.name, 100 * share)
    print(f"{args.out}: {engine.index.pictures:,} pictures, {engine.about}")
    if engine.index.gone > len(engine.index) / 4:
        rows = f"{engine.index.gone:,} of {len(engine.index):,} rows"
        compact = f"mlvl-search compact {shlex.quote(str(args.out))}"
        logger.info("%s are of pictures that are gone: %s gives their room back", rows, compact)


def query(args: argparse.Namespace) -> None:
    from mlvl_fairseq.search.query import Query

    wanted = Query.typed(args.words, lang=args.lang, picture=args.image, like=args.like)
    searcher = _searcher(args)
    found = searcher.search(wanted, args.k)
    if args.json:
        results = [
            {"row": row, "name": name, "score": round(score, 6)}
            for row, name, score in zip(found.rows, found.names, found.scores)
        ]
        for result, matched in zip(results, found.matched or ()):
            result["match"] = matched
        print(json.dumps({"engine": searcher.engine.name, "results": results}, ensure_ascii=False, indent=1))
        return
    for row, name, score in zip(found.rows, found.names, found.scores):
        print(f"{score:.4f}  {row:>7}  {name}")
    how = "; the best are in the fusion encoder's order, scores are cosines" if found.matched else ""
    logger.info("%s pictures, %s%s", f"{found.index.pictures:,}", searcher.engine.about, how)


def remove(args: argparse.Namespace) -> None:
    from mlvl_fairseq.search.marks import take_out

    count = take_out(args.out, args.patterns, args.back)
    print(f"{args.out}: {count:,} picture{'s' * (count != 1)} {'put back' if args.back else 'taken out'}")


def compact(args: argparse.Namespace) -> None:
    from mlvl_fairseq.search.building import prepare_engine
    from mlvl_fairseq.search.compacting import compact

    done = compact(args.out)
    prepare_engine(args.out, args.engine, args.uri)
    counts = f"rows left out: {done.rows:,}, parts: {done.after:,} (before: {done.before:,})"
    print(f"{args.out}: {counts}, {done.freed / 2**20:,.1f} MiB less (pictures taken out by remove stay, for --back)")


def serve(args: argparse.Namespace) -> None:
    from mlvl_fairseq.search.serving.options import ServeOptions
    from mlvl_fairseq.search.serving.server import require_server, serve

    require_server()
    serve(_searcher(args), options_from(ServeOptions, args))


def _model(args: argparse.Namespace):
    """The model that was given, or that the index knows, and where its frozen files are."""
    from mlvl_fairseq.api import load_model
    from mlvl_fairseq.errors import UserError
    from mlvl_fairseq.search.manifest import manifest_path, read_manifest

    given = {option: path for option, path in frozen_from(args).items() if path}
    checkpoint = args.checkpoint
    if manifest_path(args.out).exists():
        known = read_manifest(args.out)
        checkpoint = checkpoint or known.model
        given = {**known.frozen, **given}
    elif not checkpoint:
        raise UserError(f"{args.out}: is no index yet; give the model that makes it: --checkpoint PATH")
    return load_model(checkpoint, args.device, **given), given


def _searcher(args: argparse.Namespace):
    from mlvl_fairseq.search.manifest import read_manifest
    from mlvl_fairseq.search.searcher import Searcher

    read_manifest(args.out)
    return Searcher(args.out, _model(args)[0], args.engine, args.uri, args.rerank)


def cli_main() -> None:
    run(main)


if __name__ == "__main__":
    cli_main()
