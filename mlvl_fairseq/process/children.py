"""A killed parent takes its processes along: otherwise they would still be at work when the command is run again."""

import multiprocessing
import os
import threading


def end_with_parent() -> None:
    """Let this process, if multiprocessing started it, end as soon as its parent has ended, however that ended."""
    if multiprocessing.parent_process() is not None:
        threading.Thread(target=_wait_and_end, daemon=True).start()


def _wait_and_end() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
