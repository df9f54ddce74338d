"""Since torch 2.6, ``torch.load`` refuses what fairseq's checkpoints hold, or, told to trust them, runs
what is in them.

Breaks without it: ``fairseq-train`` with a checkpoint to go on from, ``fairseq-generate``, and whatever else loads one.
fairseq's speech models, which we never run, load with torch's own list.
"""

from mlvl_fairseq.checkpoints.safe_loading import load
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.fairseq_patches.patching import Overlay, patches, wrap


@patches("fairseq.checkpoint_utils", "fairseq.distributed.utils")
def load_safely(module) -> None:
    """What reads checkpoints, or what another rank has sent, calls `load` instead, whatever options it passes."""
    module.torch = Overlay(module.torch, load=load)


@patches("fairseq.checkpoint_utils")
def name_the_foreign_file(module) -> None:
    """A file of torch that is not fairseq's is named, where fairseq stops at a missing key."""

    def make(load_checkpoint_to_cpu):
        def load_or_explain(path, *args, **kwargs):
            try:
                return load_checkpoint_to_cpu(path, *args, **kwargs)
            except (KeyError, TypeError) as error:
                message = f"is not a checkpoint of fairseq ({type(error).__name__}: {error})"
                raise DataError(message, path=path) from error

        return load_or_explain

    wrap(module, "load_checkpoint_to_cpu", make)
