"""`mlvl-options`: every option of this plugin's tasks, models, criterions and optimizers for fairseq-train.

`fairseq-train --help` stops before the options of a task; these are all of them, from the dataclasses that define them.
With --config a recipe in YAML as fairseq-train's arguments, one a line; standard error names those still to be given.
With --count how many parameters of a model train, before anything is loaded.
"""

import argparse
import sys
from typing import List, NamedTuple, Optional

from mlvl_fairseq.cli.counting import count


class Component(NamedTuple):
    """Something that this plugin registers with fairseq.

    Attributes:
        name: several kinds of things may share one, as task, model and criterion ``trikd`` do.
        title: how it is chosen on the command line.
        dataclass: its options; None: it has none.
    """

    name: str
    title: str
    dataclass: Optional[type]


def components() -> List[Component]:
    """Everything that this plugin registers with fairseq."""
    from fairseq.criterions import CRITERION_DATACLASS_REGISTRY, CRITERION_REGISTRY
    from fairseq.models import ARCH_MODEL_INV_REGISTRY, MODEL_DATACLASS_REGISTRY, MODEL_REGISTRY
    from fairseq.optim import OPTIMIZER_DATACLASS_REGISTRY, OPTIMIZER_REGISTRY
    from fairseq.optim.lr_scheduler import LR_SCHEDULER_DATACLASS_REGISTRY, LR_SCHEDULER_REGISTRY
    from fairseq.tasks import TASK_DATACLASS_REGISTRY, TASK_REGISTRY

    import mlvl_fairseq

    mlvl_fairseq.register()
    registries = {
        "--task": (TASK_REGISTRY, TASK_DATACLASS_REGISTRY),
        "--arch": (MODEL_REGISTRY, MODEL_DATACLASS_REGISTRY),
        "--criterion": (CRITERION_REGISTRY, CRITERION_DATACLASS_REGISTRY),
        "--optimizer": (OPTIMIZER_REGISTRY, OPTIMIZER_DATACLASS_REGISTRY),
        "--lr-scheduler": (LR_SCHEDULER_REGISTRY, LR_SCHEDULER_DATACLASS_REGISTRY),
    }
    found = []
    for flag, (classes, dataclasses) in registries.items():
        for name, cls in sorted(classes.items()):
            if cls.__module__.startswith("mlvl_fairseq."):
                choices = ARCH_MODEL_INV_REGISTRY.get(name, [name]) if flag == "--arch" else [name]
                choice = f"{{{','.join(choices)}}}" if len(choices) > 1 else name
                found.append(Component(name, f"{flag} {choice}", dataclasses.get(name)))
    return found


def help_text(title: str, dataclass: Optional[type]) -> str:
    """argparse's description of a component's options."""
    from fairseq.dataclass.utils import gen_parser_from_dataclass
    from omegaconf import MISSING

    parser = argparse.ArgumentParser(
        add_help=False, usage=argparse.SUPPRESS, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    group = parser.add_argument_group(title)
    if dataclass is not None:
        gen_parser_from_dataclass(group, dataclass())
    text = parser.format_help().strip("\n").replace(f"(default: {MISSING})", "(required)")
    return text or f"{title}\n  (no options of its own)"


def model_of(name: str) -> str:
    """The model that an --arch stands for; another name as it is."""
    from fairseq.models import ARCH_MODEL_NAME_REGISTRY

    return ARCH_MODEL_NAME_REGISTRY.get(name, name)


def is_method(name: str) -> bool:
    """Whether `name` is a row of the table of methods, by our name or the published one."""
    from mlvl_fairseq.continual.methods import method_name
    from mlvl_fairseq.errors import UserError

    try:
        method_name(name)
    except UserError:
        return False
    return True


EPILOG = """\
examples:
  mlvl-options cll_retrieval cll_clip
  mlvl-options lilt_base --count --preset lwa+ln --adapter-reduction 8
  mlvl-options --config trikd_small optimization.lr=[0.001] +reference=trikd
  recipe=$(mlvl-options --config trikd_small) && mapfile -t recipe <<<"$recipe"
  fairseq-train CORPUS --user-dir "$(mlvl-path)" "${recipe[@]}" --sentencepiece XLMR --mte MTE
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "names", nargs="*", help="e.g. cll_retrieval cll_clip (default: all); with --config overrides in Hydra's manner"
    )
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--config", metavar="NAME", help="print a recipe's flags: a name of --configs, or a YAML file")
    kind.add_argument(
        "--count",
        action="store_true",
        help="how much of an --arch trains, in numbers and per cent, with the model's options as fairseq-train takes "
        "them, and --vocab-size N (default: the published text tower's)",
    )
    kind.add_argument("--configs", action="store_true", help="list the recipes that come with the package")
    return parser


def main(argv: Optional[List[str]] = None) -> None:
    given = sys.argv[1:] if argv is None else argv
    if "--count" in given and not {"-h", "--help"} & set(given):
        components()
        return count(given)
    args = build_parser().parse_args(argv)
    from mlvl_fairseq.errors import UserError

    if args.configs:
        from mlvl_fairseq.configs import list_configs

        for name, about in list_configs().items():
            print(f"{name:24} {about}")
        return
    known = components()
    if args.config:
        from mlvl_fairseq.configs import as_flags, compose_config, still_to_give

        config = compose_config(args.config, args.names)
        print("\n".join(as_flags(config, args.config)))
        needed = still_to_give(config, args.config)
        if needed:
            print(f"still to be given: {' '.join(needed)}", file=sys.stderr)
        return
    names = list(dict.fromkeys(component.name for component in known))
    wanted = [model_of(name) if name not in names else name for name in args.names]
    unknown = [name for name in wanted if name not in names]
    if unknown:
        methods = list(filter(is_method, unknown))
        if methods:
            raise UserError(
                f"{', '.join(methods)}: a method (mlvl-cll --method), not a component with options of its own; "
                "docs/methods.md explains the methods, mlvl-cll --list-methods lists them"
            )
        raise UserError(f"no component {', '.join(unknown)}; there are: {', '.join(names)}")
    chosen = [component for name in wanted or names for component in known if component.name == name]
    print("\n\n".join(help_text(component.title, component.dataclass) for component in chosen))


def cli_main() -> None:
    from mlvl_fairseq.cli.common import run

    run(main)


if __name__ == "__main__":
    cli_main()
