"""A killed parent takes its processes along: otherwise they would still be at work when the command is run again.

torch has the system send SIGINT to ranks whose parent has died; what a script starts in the background ignores that.
"""

import multiprocessing
import os
import threading
from functools import partial

from mlvl_fairseq.compat.patching import patches, wrap


def end_with_parent() -> None:
    """Let this process, if multiprocessing started it, end as soon as its parent has ended, however that ended."""
    if multiprocessing.parent_process() is not None:
        threading.Thread(target=_wait_and_end, daemon=True).start()


def _wait_and_end() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _run(main, cfg, **kwargs):
    end_with_parent()
    return main(cfg, **kwargs)


@patches("fairseq.distributed.utils")
def ranks_end_with_their_parent(module) -> None:
    def make(call_main):
        def call(cfg, main, **kwargs):
            return call_main(cfg, partial(_run, main), **kwargs)

        return call

    wrap(module, "call_main", make)
