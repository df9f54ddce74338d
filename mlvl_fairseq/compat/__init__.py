"""Everything that depends on versions: fairseq's fork, torch, numpy, clip. One problem a file, small patches for each.

Each patch is a no-op where it is not needed. `apply` waits for fairseq's modules instead of importing them, so that
commands which need no fairseq start at once.
"""

from mlvl_fairseq.compat import (  # noqa: F401  each of them registers its patches
    best_score,
    ddp_on_cpu,
    distributed_on_cpu,
    end_with_parent,
    finished_training,
    incomplete_batches,
    legacy_ddp_scalar,
    missing_checkpoint,
    numpy_aliases,
    precision,
    resumed_schedule,
    safe_loading,
    safe_saving,
    stop_training,
    user_dir,
)
from mlvl_fairseq.compat.clip_import import import_clip
from mlvl_fairseq.compat.exit_status import install_excepthook
from mlvl_fairseq.compat.import_messages import silence_import_messages
from mlvl_fairseq.compat.patching import install_patches
from mlvl_fairseq.compat.safe_loading import load_checkpoint_file

__all__ = ["apply", "import_clip", "load_checkpoint_file"]


def apply() -> None:
    """Patch fairseq's modules: those imported already now, the others right after their import. Safe to call twice.

    Raises:
        UserError: what was imported as ``fairseq`` is some folder of that name, not the package.
    """
    silence_import_messages()
    install_patches()
    install_excepthook()
