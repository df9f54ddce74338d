"""A sequence is several trainings, and each counts its updates from 0: in TensorBoard their curves lie on one another.
With ``TensorboardProgressBarWrapper.first_step``, which a driver sets, they follow each other.

Breaks without it: ``mlvl-cll ... --tensorboard-logdir``, whose languages would all begin at step 0.
"""

from mlvl_fairseq.fairseq_patches.patching import patches, wrap


@patches("fairseq.logging.progress_bar")
def go_on_counting(module) -> None:
    module.TensorboardProgressBarWrapper.first_step = 0

    def make(log):
        def log_further_on(bar, stats, tag=None, step=None):
            step = stats["num_updates"] if step is None else step
            return log(bar, stats, tag, bar.first_step + step)

        return log_further_on

    wrap(module.TensorboardProgressBarWrapper, "_log_to_tensorboard", make)
