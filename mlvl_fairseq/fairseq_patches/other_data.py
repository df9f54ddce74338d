"""fairseq goes on with whatever training lies in ``--save-dir``, also where it is asked to train on other data.

Breaks without it: ``fairseq-train --task image_text_classification --examples few.jsonl --init-from A --save-dir S``
where S holds a finished training on other examples: nothing is trained, and S is taken for what was asked for.
"""

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.fairseq_patches.patching import patches, wrap

KEY = "trained_on"


@patches("fairseq.trainer")
def say_what_it_is_trained_on(module) -> None:
    """In a checkpoint, of tasks that know it (their ``trained_on``)."""

    def make(state_dict):
        def with_data(trainer):
            state, data = state_dict(trainer), getattr(trainer.task, KEY, None)
            if data is not None:
                state["extra_state"][KEY] = data
            return state

        return with_data

    wrap(module.Trainer, "state_dict", make)


@patches("fairseq.checkpoint_utils")
def go_on_with_the_same_data(module) -> None:
    def make(load_checkpoint):
        def load(cfg, trainer, **kwargs):
            extra_state, epoch_itr = load_checkpoint(cfg, trainer, **kwargs)
            before, now = (extra_state or {}).get(KEY), getattr(trainer.task, KEY, None)
            goes_on = trainer.get_num_updates() and not (cfg.reset_optimizer or cfg.reset_dataloader)
            if goes_on and None not in (before, now) and before != now:
                raise UserError(
                    f"--save-dir {cfg.save_dir} holds a training on other examples, which would go on: choose another "
                    "folder, or delete it"
                )
            return extra_state, epoch_itr

        return load

    wrap(module, "load_checkpoint", make)
