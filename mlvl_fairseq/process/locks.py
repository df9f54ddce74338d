"""One process at a time in a folder, or at a file. The lock ends with the process that holds it, however it ends.

A command that writes into a folder holds ``alone_in(folder)`` while it is at work, one that writes files
``writing(path, ...)``: of two that would write in one place, the second one ends with a clear line. What the holder of
a lock calls, and the processes that it forks, may take the same lock again.
"""

import contextlib
import logging
import os
import shutil
import time
from pathlib import Path
from typing import Iterator, Optional, Set, TextIO

from mlvl_fairseq.errors import UserError

logger = logging.getLogger(__name__)

PATIENCE = 10.0  # seconds: children of a killed process hold its lock until they have ended, too
POLL_SECONDS = 0.1

_held: Set[str] = set()  # by this process, or by one that it was forked from


@contextlib.contextmanager
def locked(folder, wait: bool = True, name: str = "") -> Iterator[None]:
    """Hold a lock, which is on a file ``.lock``; file systems that have no locks are worked in without.

    Args:
        folder: it must exist.
        wait: for the process that holds the lock.
        name: of what in the folder is locked; by default the folder itself.

    Raises:
        UserError: another process still holds it after :data:`PATIENCE`, and `wait` is False.
    """
    where = Path(folder) / name
    path = where.with_name(f".{name}.lock") if name else where / ".lock"
    key = os.path.realpath(path)
    if key in _held:
        yield
        return
    file = None
    while file is None:
        file = _acquire(path, where, wait)
    _held.add(key)
    try:
        yield
    finally:
        _held.discard(key)
        if name:
            path.unlink(missing_ok=True)
        file.close()


@contextlib.contextmanager
def alone_in(folder) -> Iterator[None]:
    """Hold the lock of a folder, which is made if it is not there; one that was made for nothing is removed.

    Raises:
        UserError: another process is at work there, or it is a file.
    """
    folder = Path(folder)
    is_new = not folder.exists()
    if not is_new and not folder.is_dir():
        raise UserError(f"{folder}: is a file, where a folder is to be written")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with locked(folder, wait=False):
            yield
    except BaseException:
        if is_new and [path.name for path in folder.iterdir()] == [".lock"]:
            shutil.rmtree(folder)
        raise


@contextlib.contextmanager
def writing(*paths) -> Iterator[None]:
    """Hold the locks of some files, or of a folder, that are going to be written, each on a file beside it.

    Args:
        paths: None is one that was not asked for; their folders must exist.

    Raises:
        UserError: another process is writing one of them, or its folder is not there.
    """
    with contextlib.ExitStack() as stack:
        for path in sorted({Path(os.path.abspath(path)) for path in paths if path is not None}):
            if not path.parent.is_dir():
                raise UserError(f"{path.parent}: no such folder; make it first")
            stack.enter_context(locked(path.parent, wait=False, name=path.name))
        yield


def _acquire(path: Path, where: Path, wait: bool) -> Optional[TextIO]:
    """The open file that holds the lock; None: its holder has removed it, another one has to be made."""
    import fcntl

    file = open(path, "a")
    try:
        deadline, told = time.monotonic() + PATIENCE, False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait and told else fcntl.LOCK_NB))
                break
            except BlockingIOError:
                if not told:
                    logger.info("waiting for another process in %s", where)
                    told = True
                elif time.monotonic() > deadline:
                    message = f"another process is at work in {where}: wait until it has ended, or end it"
                    raise UserError(message) from None
                time.sleep(POLL_SECONDS)
            except OSError:  # not supported here
                break
        if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return file
    except BaseException:
        file.close()
        raise
    file.close()
    return None
