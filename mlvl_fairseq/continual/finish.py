"""What happens to a language's checkpoints once its last epoch has ended."""

import logging
from pathlib import Path
from typing import Any, Dict

from mlvl_fairseq.checkpoints.archive import save_checkpoint
from mlvl_fairseq.checkpoints.changes import changes_since, handed_over
from mlvl_fairseq.checkpoints.safe_loading import load_checkpoint_file
from mlvl_fairseq.continual.sequence import Sequence
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.files import write_json

logger = logging.getLogger(__name__)


def finish_checkpoint(sequence: Sequence, step: int) -> None:
    """Keep the best checkpoint without its optimizer state, remove the others, and mark the language as done.
    Those of ``--save-interval-updates`` stay where the user has said how many to keep.

    A third of a checkpoint is what the next language needs, and most of that is what the language before left: rows of
    tokens that the language does not use. Between the first and the last language of a run, only the changes are kept.

    Raises:
        DataError: training left no best checkpoint.
    """
    folder = sequence.folder_of(step)
    path = folder.best_checkpoint
    if not path.exists():
        raise DataError("training wrote no best checkpoint; was validation disabled?", path)
    state = load_checkpoint_file(path)
    if state.pop("last_optimizer_state", None) is not None:
        before = sequence.kept_changes_since(step)
        content = state if before is None else _changes(before.best_checkpoint, state, path)
        save_checkpoint(content, path)
    if not sequence.keeps_interval_checkpoints:
        for others in folder.interval_checkpoints:
            others.unlink()
            logger.info("removed %s: the language has ended (--keep-interval-updates keeps it)", others)
    extra = state["extra_state"]
    write_json(
        folder.done,
        {
            "checkpoint": path.name,
            "num_updates": state["optimizer_history"][-1]["num_updates"],
            "r_mean": extra["best"],
            "trainable_parameters": state["task_state"]["trainable_parameters"],
            "checkpoint_bytes": path.stat().st_size,
        },
    )
    folder.last_checkpoint.unlink(missing_ok=True)


def _changes(base: Path, state: Dict[str, Any], path: Path) -> Dict[str, Any]:
    return changes_since(handed_over(load_checkpoint_file(base)), base, state, path)
