"""Checkpoints appear whole or not at all, with a seal, and a full disk ends the run with one clear line.

fairseq writes to ``.tmp`` and renames, but does not flush to disk, tries a failed write three times into the same
file, and overwrites ``checkpoint_best.pt`` in place, so that a full disk takes the earlier one with it.

Breaks without it: ``fairseq-train ...`` on a disk that is nearly full, or on a machine that loses power.
"""

import shutil

from mlvl_fairseq.checkpoints.archive import write_checkpoint
from mlvl_fairseq.fairseq_patches.patching import patches, wrap
from mlvl_fairseq.files import saving, write_or_keep


@patches("fairseq.checkpoint_utils")
def save_durably(module) -> None:
    def make(torch_persistent_save):
        def save(obj, filename, async_write: bool = False):
            if async_write or not module.PathManager.supports_rename(filename):
                return torch_persistent_save(obj, filename, async_write)
            return write_or_keep(filename, lambda file: write_checkpoint(obj, file))

        return save

    wrap(module, "torch_persistent_save", make)


@patches("fairseq.checkpoint_utils")
def explain_the_save_dir(module) -> None:
    """A folder that cannot be made or written to is one line, where fairseq ends in a traceback."""

    def make(verify_checkpoint_directory):
        def verify(save_dir: str) -> None:
            with saving(save_dir):
                verify_checkpoint_directory(save_dir)

        return verify

    wrap(module, "verify_checkpoint_directory", make)


@patches("fairseq.file_io")
def copy_durably(module) -> None:
    manager = module.PathManager

    def make(copy):
        def copy_local(src_path: str, dst_path: str, overwrite: bool = False):
            if manager.path_requires_pathmanager(src_path) or manager.path_requires_pathmanager(dst_path):
                return copy(src_path, dst_path, overwrite)
            with open(src_path, "rb") as source:
                write_or_keep(dst_path, lambda file: shutil.copyfileobj(source, file, 1 << 20))
            return dst_path

        return copy_local

    wrap(manager, "copy", make)
