"""fairseq looks at ``--max-update`` after an update only: started again, a finished run trains one more and may
overwrite its best checkpoint.

Breaks without it: ``fairseq-train ... --max-update N``, and ``mlvl-cll --max-update N`` with it, started twice.
"""

import logging

from mlvl_fairseq.fairseq_patches.patching import patches, wrap

logger = logging.getLogger(__name__)


@patches("fairseq_cli.train")
def stop_where_it_stopped(module) -> None:
    def make(train):
        def train_unless_finished(cfg, trainer, task, epoch_itr):
            done, limit = trainer.get_num_updates(), cfg.optimization.max_update
            if limit and done >= limit:
                logger.info(f"Nothing left to train: num_updates: {done} >= max_update: {limit}")
                return [None], True
            return train(cfg, trainer, task, epoch_itr)

        return train_unless_finished

    wrap(module, "train", make)
