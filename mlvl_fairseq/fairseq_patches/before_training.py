"""What fairseq finds out only after hours: a ``--best-checkpoint-metric`` that validation does not give is a KeyError
after the first epoch.

Breaks without it: ``fairseq-train ... --best-checkpoint-metric rmean``.
"""

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
