"""`mlvl-options ARCH --count`: how much of a model trains, found out without memory for it."""

import argparse
from itertools import takewhile
from typing import Sequence


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        from mlvl_fairseq.errors import UserError

        raise UserError(f"--count: {message}")


def count(arguments: Sequence[str]) -> None:
    """Print what trains, the total, and both percentages.

    Args:
        arguments: options of a model, its ``--arch`` among them, or in front of all an architecture's name.

    Raises:
        UserError: there is no such architecture, its model cannot be counted so, or an option is none of it.
    """
    from fairseq.dataclass.utils import gen_parser_from_dataclass
    from fairseq.models import (
        ARCH_CONFIG_REGISTRY,
        ARCH_MODEL_NAME_REGISTRY,
        ARCH_MODEL_REGISTRY,
        MODEL_DATACLASS_REGISTRY,
    )

    from mlvl_fairseq.errors import UserError

    names = list(takewhile(lambda word: not word.startswith("-"), arguments))
    first = _Parser(add_help=False)
    first.add_argument("--count", action="store_true")
    first.add_argument("--arch", default=names[0] if names else None)
    first.add_argument("--vocab-size", type=int)
    chosen, rest = first.parse_known_args(arguments[len(names) :])
    counted = {arch: model for arch, model in ARCH_MODEL_REGISTRY.items() if hasattr(model, "count")}
    if chosen.arch not in counted or len(names) > 1:
        raise UserError(f"--count takes one --arch of {', '.join(counted)}")
    model = counted[chosen.arch]
    config = MODEL_DATACLASS_REGISTRY[ARCH_MODEL_NAME_REGISTRY[chosen.arch]]
    parser = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    gen_parser_from_dataclass(parser, config(), delete_default=True)
    options = parser.parse_args(rest)
    ARCH_CONFIG_REGISTRY[chosen.arch](options)
    known = config.__dataclass_fields__
    counts = model.count(config(**{k: v for k, v in vars(options).items() if k in known}), chosen.vocab_size)
    base = counts.total - counts.added
    print(f"trainable  {counts.trained:15,}")
    print(f"total      {counts.total:15,}  {counts.percent:9.4f}% of it trains")
    print(f"base       {base:15,}  {counts.percent_of_base:9.4f}% of what it has without added parts")
