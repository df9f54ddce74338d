"""fairseq saves an epoch's last checkpoint before it tells the schedule the validation loss, and does not tell it when
the run goes on from there: ``--lr-scheduler reduce_lr_on_plateau`` misses an epoch.

Breaks without it: ``fairseq-train ... --lr-scheduler reduce_lr_on_plateau``, started again between two epochs.
"""

from mlvl_fairseq.fairseq_patches.patching import patches, wrap


@patches("fairseq.checkpoint_utils")
def tell_the_validation_loss(module) -> None:
    def make(load_checkpoint):
        def load(cfg, trainer, **kwargs):
            extra_state, epoch_itr = load_checkpoint(cfg, trainer, **kwargs)
            resumes = trainer.get_num_updates() and not (cfg.reset_lr_scheduler or cfg.reset_dataloader)
            if extra_state is not None and resumes:
                place, loss = extra_state["train_iterator"], extra_state.get("val_loss")
                if loss is not None and place.get("iterations_in_epoch") == 0:
                    ended = place["epoch"] - 1
                    trainer.lr_step(ended)  # fairseq has announced the next epoch already
                    trainer.lr_step(ended, loss)
            return extra_state, epoch_itr

        return load

    wrap(module, "load_checkpoint", make)
