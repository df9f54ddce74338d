"""What happens to a language's checkpoints once its last epoch has ended."""

import torch

from mlvl_fairseq.compat import load_checkpoint_file
from mlvl_fairseq.continual.sequence import Sequence
from mlvl_fairseq.data.atomic_files import atomic_path, write_json
from mlvl_fairseq.errors import DataError


def finish_checkpoint(sequence: Sequence, step: int) -> None:
    """Keep the best checkpoint without its optimizer state, remove the last one, and mark the language as done.

    A third of a finished checkpoint is what the next language needs; over 36 languages the rest would be gigabytes.

    Raises:
        DataError: training left no best checkpoint.
    """
    path = sequence.checkpoint(step)
    if not path.exists():
        raise DataError("training wrote no best checkpoint; was validation disabled?", path)
    state = load_checkpoint_file(path)
    if state.pop("last_optimizer_state", None) is not None:
        with atomic_path(path) as temporary:
            torch.save(state, temporary)
    extra = state["extra_state"]
    write_json(
        sequence.done_path(step),
        {
            "checkpoint": path.name,
            "num_updates": state["optimizer_history"][-1]["num_updates"],
            "r_mean": extra["best"],
            "trainable_parameters": state["task_state"]["trainable_parameters"],
            "checkpoint_bytes": path.stat().st_size,
        },
    )
    path.with_name("checkpoint_last.pt").unlink(missing_ok=True)
