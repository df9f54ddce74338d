"""What fairseq finds out only after hours: a ``--best-checkpoint-metric`` that validation does not give is a KeyError
after the first epoch. And a ``--save-dir`` that cannot be written is a traceback.

Breaks without it: ``fairseq-train ... --best-checkpoint-metric rmean``; ``--save-dir`` in a read-only folder.
"""

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.fairseq_patches.patching import patches, wrap


@patches("fairseq.trainer")
def know_the_metric(module) -> None:
    def make(init):
        def init_and_check(trainer, cfg, task, model, criterion, *args, **kwargs):
            init(trainer, cfg, task, model, criterion, *args, **kwargs)
            if hasattr(task, "check_metric") and not cfg.dataset.disable_validation:
                task.check_metric(cfg.checkpoint.best_checkpoint_metric, criterion)

        return init_and_check

    wrap(module.Trainer, "__init__", make)


@patches("fairseq.checkpoint_utils")
def say_what_cannot_be_written(module) -> None:
    def make(verify):
        def verify_in_one_line(save_dir):
            try:
                verify(save_dir)
            except OSError as error:
                raise UserError(f"--save-dir {save_dir} cannot be written: {error.strerror or error}") from error

        return verify_in_one_line

    wrap(module, "verify_checkpoint_directory", make)
