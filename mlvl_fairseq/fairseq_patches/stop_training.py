"""SIGTERM and Ctrl-C stop ``fairseq-train`` after the running update, with its state in ``checkpoint_last.pt``.

fairseq dies on either and loses what came after the last checkpoint. Nothing is validated for the sake of stopping: a
further validation could change what is best. One that is due takes place, for the same reason.

Breaks without it: ``fairseq-train ...`` or ``mlvl-cll``, ended by Ctrl-C, ``kill`` or a cluster's time limit.
"""

import copy
import logging
from dataclasses import dataclass
from typing import Optional

from mlvl_fairseq.fairseq_patches.patching import patches, wrap
from mlvl_fairseq.process.signals import Forwarder, Stopped, on_stop_signal, signal_of_status

logger = logging.getLogger(__name__)


@dataclass
class _Training:
    """This process's training.

    Attributes:
        requested: the signal that asks it to stop.
        updating: has the first update begun? There is nothing to save before.
        updates: number of updates that have been done. saved: the number at the last checkpoint.
    """

    requested: Optional[int] = None
    updating: bool = False
    updates: Optional[int] = None
    saved: Optional[int] = None

    def request(self, number: int) -> None:
        """Raises Stopped: there is nothing to wait for."""
        if not self.updating:
            raise Stopped(number)
        self.requested = number


_training = _Training()


@patches("fairseq_cli.train")
def stop_on_request(module) -> None:
    def make(main):
        def main_until_stopped(cfg, *args, **kwargs):
            vars(_training).update(vars(_Training()))
            try:
                with on_stop_signal(_training.request):
                    main(cfg, *args, **kwargs)
                number = _training.requested
            except Stopped as stopped:
                number = stopped.number
            # outside of the except clause, so that no traceback holds on to data loaders: their workers end now
            if number is not None:
                stopped = Stopped(number)
                if module.distributed_utils.is_master(cfg.distributed_training):
                    logger.info(_report(stopped))
                raise stopped

        return main_until_stopped

    wrap(module, "main", make)


def _report(stopped: Stopped) -> str:
    where = "before an update" if _training.updates is None else f"at update {_training.updates}"
    return f"stopped by {stopped.signal_name} {where}; the same command continues"


@patches("fairseq.trainer")
def note_the_first_update(module) -> None:
    def make(train_step):
        def step(*args, **kwargs):
            _training.updating = True
            return train_step(*args, **kwargs)

        return step

    wrap(module.Trainer, "train_step", make)


@patches("fairseq.checkpoint_utils")
def note_the_last_checkpoint(module) -> None:
    def make(save_checkpoint):
        def save(cfg, trainer, epoch_itr, val_loss):
            path = save_checkpoint(cfg, trainer, epoch_itr, val_loss)
            _training.saved = trainer.get_num_updates()
            return path

        return save

    wrap(module, "save_checkpoint", make)


@patches("fairseq_cli.train")
def stop_after_an_update(module) -> None:
    def make(validate_and_save):
        def validate_save_and_stop(cfg, trainer, task, epoch_itr, valid_subsets, end_of_epoch):
            result = validate_and_save(cfg, trainer, task, epoch_itr, valid_subsets, end_of_epoch)
            _training.updates = trainer.get_num_updates()
            number = _agreed(module.distributed_utils, cfg, trainer)
            if number is None:
                return result
            if _training.saved != _training.updates:
                module.checkpoint_utils.save_checkpoint(_last_only(cfg.checkpoint), trainer, epoch_itr, None)
            _agreed(module.distributed_utils, cfg, trainer)  # no rank ends before the first one has saved
            raise Stopped(number)

        return validate_save_and_stop

    wrap(module, "validate_and_save", make)


def _agreed(distributed_utils, cfg, trainer) -> Optional[int]:
    """The signal that any of the ranks has got: all must stop after the same update, or the others wait for ever."""
    if cfg.distributed_training.distributed_world_size == 1:
        return _training.requested
    import torch

    number = torch.tensor([_training.requested or 0], device=trainer.device)
    return int(distributed_utils.all_reduce(number, distributed_utils.get_global_group(), op="max")) or None


def _last_only(checkpoint_cfg):
    """Options of a save that writes ``checkpoint_last.pt`` and nothing else."""
    cfg = copy.deepcopy(checkpoint_cfg)
    cfg.save_interval_updates, cfg.no_epoch_checkpoints = 0, True
    return cfg


@patches("fairseq.distributed.utils")
def stop_ranks(module) -> None:
    """The process that spawns the ranks passes signals on and ends as they do."""

    def make(call_main):
        def call(cfg, main, **kwargs):
            forward = Forwarder()
            try:
                with on_stop_signal(forward):
                    result = call_main(cfg, main, **kwargs)
                number = forward.number
            except Exception as error:
                number = signal_of_status(getattr(error, "exit_code", None))  # torch's ProcessExitedException
                if number is None:
                    raise
            if number is not None:
                raise Stopped(number)
            return result

        return call

    wrap(module, "call_main", make)
