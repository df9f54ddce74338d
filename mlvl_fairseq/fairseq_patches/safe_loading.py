"""Since torch 2.6, ``torch.load`` refuses what fairseq's checkpoints hold, or, told to trust them, runs
what is in them.

Breaks without it: ``fairseq-train`` with a checkpoint to go on from, ``fairseq-generate``, and whatever else loads one.
fairseq's speech models, which we never run, load with torch's own list.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any, Dict, List, Optional

from msgspec import Meta

from mlvl_fairseq.checkpoints.safe_loading import load
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.fairseq_patches.patching import Overlay, patches, wrap
from mlvl_fairseq.json_files import Count, checked


@patches("fairseq.checkpoint_utils", "fairseq.distributed.utils")
def load_safely(module) -> None:
    """What reads checkpoints, or what another rank has sent, calls `load` instead, whatever options it passes."""
    module.torch = Overlay(module.torch, load=load)


@dataclass
class _Update:
    num_updates: Count


@dataclass
class _Iterator:
    epoch: Count = 1
    iterations_in_epoch: Count = 0


@dataclass
class _Extra:
    train_iterator: _Iterator = field(default_factory=_Iterator)


@dataclass
class _Checkpoint:
    """What fairseq takes on trust, whatever the task."""

    model: Dict[str, Any]
    optimizer_history: Annotated[List[_Update], Meta(min_length=1)]
    extra_state: _Extra
    cfg: Optional[Dict[str, Any]] = None


@patches("fairseq.checkpoint_utils")
def name_the_foreign_file(module) -> None:
    """A file of torch that is not fairseq's is named, where fairseq stops at a missing key or another type."""

    def make(load_checkpoint_to_cpu):
        def load_or_explain(path, *args, **kwargs):
            try:
                state = load_checkpoint_to_cpu(path, *args, **kwargs)
            except (ArithmeticError, AttributeError, LookupError, TypeError) as error:
                message = f"is not a checkpoint of fairseq ({type(error).__name__}: {error})"
                raise DataError(message, path=path) from error
            checked(state, _Checkpoint, path)
            return state

        return load_or_explain

    wrap(module, "load_checkpoint_to_cpu", make)


@patches("fairseq.trainer")
def say_what_does_not_fit(module) -> None:
    """What goes wrong while training takes up a checkpoint is said in one line, with the file."""

    def make(load_checkpoint):
        def load_or_explain(trainer, filename, *args, **kwargs):
            try:
                return load_checkpoint(trainer, filename, *args, **kwargs)
            except (OSError, MemoryError):
                raise
            except Exception as error:
                hidden = error.__context__ if type(error) is Exception else None  # "Cannot load model parameters"
                cause = hidden or error
                if isinstance(cause, UserError):
                    raise
                reason = " ".join(f"{type(cause).__name__}: {cause}".split())
                message = f"does not fit what is trained here ({reason[:300]}); give the options it was trained with"
                raise DataError(message, path=filename) from error

        return load_or_explain

    wrap(module.Trainer, "load_checkpoint", make)
