"""`mlvl-list`: what can be chosen by name, and what each name stands for.

Without a name everything is listed. Nothing is kept in lists: what is there is found in the folders of the package.
"""

import argparse
import json
import sys
from typing import Callable, Dict, List, Optional

Names = Dict[str, str]  # name -> what it is
Listing = Dict[str, Names]  # heading -> names; "" where one heading is enough

EPILOG = """\
examples:
  mlvl-list
  mlvl-list methods
  mlvl-list formats --json
"""

LISTS: Dict[str, Callable[[], Listing]] = {}


def listing(function: Callable[[], Listing]) -> Callable[[], Listing]:
    """Decorator: make a list known under its function's name; the docstring is its help."""
    LISTS[function.__name__] = function
    return function


@listing
def models() -> Listing:
    """architectures that can be trained (--arch)"""
    from mlvl_fairseq.api import list_models

    return {"": list_models()}


@listing
def presets() -> Listing:
    """what trains in a dual encoder and what is added to it (--preset), and recipes (--config)"""
    from mlvl_fairseq.configs import list_configs
    from mlvl_fairseq.networks.presets import list_presets

    return {"--preset": list_presets(), "--config": list_configs()}


@listing
def methods() -> Listing:
    """methods of learning one language after another (mlvl-cll --method)"""
    from mlvl_fairseq.continual.methods import list_methods

    return {"": list_methods()}


@listing
def datasets() -> Listing:
    """data sets of classes (mlvl-evaluate classification --data-set)"""
    from mlvl_fairseq.data.classification import DATA_SETS
    from mlvl_fairseq.docstrings import summary

    return {"": {name: summary(kind) for name, kind in sorted(DATA_SETS.items())}}


@listing
def evaluators() -> Listing:
    """what a model can be scored on (mlvl-evaluate NAME)"""
    from mlvl_fairseq.docstrings import summary
    from mlvl_fairseq.evaluation.evaluators import EVALUATORS

    return {"": {name: summary(evaluator) for name, evaluator in sorted(EVALUATORS.items())}}


@listing
def formats() -> Listing:
    """files that are read (weights, captions, examples) and written (mlvl-export)"""
    from mlvl_fairseq.checkpoints.source import weight_formats
    from mlvl_fairseq.data.captions.reading import readers
    from mlvl_fairseq.data.examples import example_readers
    from mlvl_fairseq.export import known_exports

    return {
        "weights (--checkpoint)": {one.description: one.family for one in weight_formats()},
        "captions (--captions-format)": _by_file(readers()),
        "examples (--examples-format)": _by_file(example_readers()),
        "exports (mlvl-export FORMAT)": {one.name: one.help for one in known_exports()},
    }


def _by_file(known: Dict[str, object]) -> Names:
    """What the file of each format says of it."""
    from mlvl_fairseq.docstrings import summary

    return {name: summary(sys.modules[type(reader).__module__]) for name, reader in sorted(known.items())}


def build_parser() -> argparse.ArgumentParser:
    width = max(map(len, LISTS))
    listed = "\n".join(f"  {name:{width}}  {function.__doc__}" for name, function in LISTS.items())
    parser = argparse.ArgumentParser(
        description=f"{__doc__}\nlists:\n{listed}",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("lists", nargs="*", metavar="LIST", help="one or several of the above (default: all)")
    parser.add_argument("--json", action="store_true", help="print JSON: list -> name -> what it is")
    return parser


def main(argv: Optional[List[str]] = None) -> None:
    from mlvl_fairseq.errors import UserError

    args = build_parser().parse_args(argv)
    for name in args.lists:
        if name not in LISTS:
            raise UserError(f"no list '{name}'; there are: {', '.join(LISTS)}")
    found = {name: LISTS[name]() for name in dict.fromkeys(args.lists or LISTS)}
    if args.json:
        print(json.dumps({name: of.get("", of) for name, of in found.items()}, ensure_ascii=False, indent=1))
        return
    print("\n\n".join(_text(name, LISTS[name].__doc__, of) for name, of in found.items()))


def _text(title: str, about: str, of: Listing) -> str:
    lines = [f"{title}: {about}"]
    for heading, names in of.items():
        width, indent = max(map(len, names)), "    " if heading else "  "
        lines += [f"  {heading}"] if heading else []
        lines += [f"{indent}{name:{width}}  {text}" for name, text in names.items()]
    return "\n".join(lines)


def cli_main() -> None:
    from mlvl_fairseq.cli.common import run

    run(main)


if __name__ == "__main__":
    cli_main()
