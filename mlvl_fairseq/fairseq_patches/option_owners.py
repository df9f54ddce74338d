"""An option of a plugged-in part may have the name of one of fairseq's that another command takes.

Breaks without it: ``fairseq-train ... --arch lilt_base --temperature log_scale`` (a traceback: fairseq would set the
temperature of its generation, too, which is a number).
"""

import argparse
from dataclasses import fields, is_dataclass
from typing import Dict, Iterator, Set

from mlvl_fairseq.fairseq_patches.patching import patches, wrap

REFERENCE = "${"  # the default of an option that follows fairseq's of that name, such as ${common.seed}


@patches("fairseq.dataclass.utils")
def keep_options_apart(module) -> None:
    def make(override_attr):
        def of_its_owner(sub_node, data_class, args):
            group = module.FairseqConfig.__dataclass_fields__.get(sub_node)
            if group is not None and group.type is data_class and args is not None:
                theirs = own_options(args)
                args = argparse.Namespace(**{name: value for name, value in vars(args).items() if name not in theirs})
            return override_attr(sub_node, data_class, args)

        return of_its_owner

    wrap(module, "_override_attr", make)


def own_options(args: argparse.Namespace) -> Set[str]:
    """Names of options that the parts which `args` choose have for themselves; fairseq's own parts are left alone."""
    return {
        option.name
        for part in _chosen(args)
        if not part.__module__.startswith("fairseq.")
        for option in fields(part)
        if not str(option.default).startswith(REFERENCE)
    }


def _chosen(args: argparse.Namespace) -> Iterator[type]:
    """Dataclasses of the task, the model, the criterion, ... that are named."""
    for option, registry in registries().items():
        part = registry.get(getattr(args, option, None))
        if is_dataclass(part):
            yield part


def registries() -> Dict[str, Dict[str, type]]:
    """Option that chooses a part -> its values -> the dataclass of its options."""
    from fairseq.models import ARCH_MODEL_REGISTRY
    from fairseq.registry import REGISTRIES
    from fairseq.tasks import TASK_DATACLASS_REGISTRY

    models = {arch: getattr(model, "__dataclass", None) for arch, model in ARCH_MODEL_REGISTRY.items()}
    others = {option: registry["dataclass_registry"] for option, registry in REGISTRIES.items()}
    return {"task": TASK_DATACLASS_REGISTRY, "arch": models, **others}
