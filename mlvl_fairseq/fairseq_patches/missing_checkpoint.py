"""A missing ``--finetune-from-model`` ends in a traceback; what fairseq says in it is clear, and enough. One that is no
regular file is not loaded, and nothing is said.

Breaks without it: ``fairseq-train ... --finetune-from-model MISSING``, which is to end in one line and status 2.
"""

import os

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.fairseq_patches.patching import patches, wrap
from mlvl_fairseq.files import require_file


@patches("fairseq.checkpoint_utils")
def explain_in_one_line(module) -> None:
    def make(load_checkpoint):
        def load(cfg, trainer, **kwargs):
            if cfg.finetune_from_model and os.path.exists(cfg.finetune_from_model):
                require_file(cfg.finetune_from_model)
            try:
                return load_checkpoint(cfg, trainer, **kwargs)
            except ValueError as error:
                if "--finetune-from-model" in str(error) and not isinstance(error, UserError):
                    raise UserError(str(error).partition(": {")[0]) from error  # the rest is the configuration
                raise

        return load

    wrap(module, "load_checkpoint", make)
