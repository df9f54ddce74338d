"""One process at a time in a folder. The lock ends with the process that holds it, however it ends."""

import contextlib
from pathlib import Path

from mlvl_fairseq.errors import UserError


@contextlib.contextmanager
def locked(folder, wait: bool = True):
    """Hold a folder's lock, which is on its file ``.lock``; file systems that have no locks are worked in without.

    Args:
        folder: it must exist.
        wait: for the process that holds the lock.

    Raises:
        UserError: another process holds it, and `wait` is False.
    """
    import fcntl

    with open(Path(folder) / ".lock", "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise UserError(f"another process is at work in {folder}: wait until it has ended, or end it") from None
        except OSError:  # not supported here
            pass
        yield
