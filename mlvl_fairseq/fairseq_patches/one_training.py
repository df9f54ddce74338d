"""Two trainings in one ``--save-dir`` write the same temporary files and each other's checkpoints.

Breaks without it: ``fairseq-train ... --save-dir X`` in two terminals at once.
"""

import contextlib
import os
from pathlib import Path

from mlvl_fairseq.fairseq_patches.patching import patches, wrap
from mlvl_fairseq.files import saving
from mlvl_fairseq.process.locks import writing


@patches("fairseq_cli.train")
def lock_the_save_dir(module) -> None:
    """The rank that writes holds the lock, which ends with its process; a second training ends in one line."""

    def make(main):
        def main_alone(cfg, *args, **kwargs):
            with contextlib.ExitStack() as stack:
                if module.distributed_utils.is_master(cfg.distributed_training) and not cfg.checkpoint.no_save:
                    folder = cfg.checkpoint.save_dir
                    if not os.path.isdir(folder):
                        stack.callback(_remove_empty, folder)  # of a training that was refused
                    with saving(folder):
                        os.makedirs(folder, exist_ok=True)
                        stack.enter_context(writing(Path(folder) / "checkpoint_last.pt"))
                return main(cfg, *args, **kwargs)

        return main_alone

    wrap(module, "main", make)


def _remove_empty(folder: str) -> None:
    with contextlib.suppress(OSError):  # it holds something
        os.rmdir(folder)
