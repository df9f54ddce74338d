"""One process at a time in a folder. The lock ends with the process that holds it, however it ends."""

import contextlib
import logging
import time
from pathlib import Path

from mlvl_fairseq.errors import UserError

logger = logging.getLogger(__name__)

PATIENCE = 10.0  # seconds: children of a killed process hold its lock until they have ended, too
POLL_SECONDS = 0.1


@contextlib.contextmanager
def locked(folder, wait: bool = True, name: str = ".lock"):
    """Hold a folder's lock, which is on its file ``.lock``; file systems that have no locks are worked in without.

    Args:
        folder: it must exist.
        wait: for the process that holds the lock.
        name: of the file, where a folder has another lock for another purpose.

    Raises:
        UserError: another process still holds it after :data:`PATIENCE`, and `wait` is False.
    """
    import fcntl

    with open(Path(folder) / name, "a") as file:
        deadline, told = time.monotonic() + PATIENCE, False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait and told else fcntl.LOCK_NB))
                break
            except BlockingIOError:
                if not told:
                    logger.info("waiting for another process in %s", folder)
                    told = True
                elif time.monotonic() > deadline:
                    message = f"another process is at work in {folder}: wait until it has ended, or end it"
                    raise UserError(message) from None
                time.sleep(POLL_SECONDS)
            except OSError:  # not supported here
                break
        yield
