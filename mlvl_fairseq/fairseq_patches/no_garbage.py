"""Python looks for garbage again and again while it imports thousands of modules, among ever more objects of which none
is any: a sixth of the time in which a command starts. In a command what has been imported stays, and is never looked
through again; other programs may have garbage of their own, and find it as before.

Breaks without it: ``mlvl-evaluate`` and its like, which start later.
"""

import contextlib
import gc
import sys
from typing import Iterator

from mlvl_fairseq.fairseq_patches.patching import around_import, patches

COMMANDS = ("mlvl_fairseq.cli", "fairseq_cli")


@around_import("torch")
@around_import("fairseq")
@contextlib.contextmanager
def look_for_none() -> Iterator[None]:
    was_looking = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        keep_what_is_imported()
        if was_looking:
            gc.enable()


@patches("fairseq")  # which fairseq-train has imported before this package
def keep_what_is_imported(module=None) -> None:
    if any(name in sys.modules for name in COMMANDS):
        gc.freeze()
