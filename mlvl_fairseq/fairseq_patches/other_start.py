"""fairseq goes on with whatever training lies in ``--save-dir``, also where it is asked to start from other weights.

Breaks without it: ``fairseq-train --init-from B --save-dir S`` where S holds a training that started from A: it goes
on, B gives what stays frozen at most, and nothing is said.
"""

from dataclasses import fields
from typing import Dict, List

from mlvl_fairseq.digests import weights_fingerprint
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.fairseq_patches.patching import patches, wrap
from mlvl_fairseq.options import STARTS

KEY = "started_from"  # in a checkpoint, option -> path and sha256 of the file or folder that it named


def started_from(model) -> Dict[str, List[str]]:
    """What a model of ours has started from, by option; computed once."""
    if KEY not in vars(model):
        config, given = getattr(type(model), "__dataclass", None), getattr(model, "built_with", None)
        names = [one.name for one in fields(config) if one.metadata.get(STARTS)] if config and given else []
        paths = {name: getattr(given, name) for name in names}
        vars(model)[KEY] = {name: [str(path), weights_fingerprint(path)] for name, path in paths.items() if path}
    return vars(model)[KEY]


@patches("fairseq.trainer")
def say_what_it_started_from(module) -> None:
    def make(state_dict):
        def with_start(trainer):
            state = state_dict(trainer)
            state["extra_state"][KEY] = started_from(trainer.get_model())
            return state

        return with_start

    wrap(module.Trainer, "state_dict", make)


@patches("fairseq.checkpoint_utils")
def go_on_from_the_same_start(module) -> None:
    def make(load_checkpoint):
        def load(cfg, trainer, **kwargs):
            extra_state, epoch_itr = load_checkpoint(cfg, trainer, **kwargs)
            before = (extra_state or {}).get(KEY) or {}
            if before and trainer.get_num_updates() and not cfg.reset_optimizer:
                for name, (path, digest) in started_from(trainer.get_model()).items():
                    if name in before and before[name][1] != digest:
                        option = f"--{name.replace('_', '-')}"
                        raise UserError(
                            f"--save-dir {cfg.save_dir} holds a training that started with {option} {before[name][0]}, "
                            f"and {option} {path} holds other weights: choose another folder, or start as it did"
                        )
            return extra_state, epoch_itr

        return load

    wrap(module, "load_checkpoint", make)
