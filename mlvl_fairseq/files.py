"""Files that users give and that commands leave for each other.

What is read is a regular file, and inflates to a bounded size. What is written appears whole or not at all: beside its
place, flushed to disk, then renamed.
"""

import contextlib
import errno
import gzip
import io
import json
import os
import stat
from pathlib import Path
from typing import BinaryIO, Callable, Optional

from mlvl_fairseq.errors import DataError

INFLATION = 100  # text deflates to a third or a fifth, very repetitive text to a fiftieth; a bomb to a thousandth
INFLATED_AT_LEAST = 64 << 20  # bytes that any file may inflate to
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NOT_ALLOWED = {errno.EROFS, errno.EACCES, errno.EPERM}


def require_file(path, missing: str = "") -> None:
    """Look at a file before anybody opens it: opening a pipe waits for ever, reading a device need not end.

    Args:
        missing: what to do if it is not there.

    Raises:
        DataError: there is none, or it is no regular file.
    """
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise DataError("no such file" + (f"; {missing}" if missing else ""), path) from None
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
        raise DataError(f"cannot be read: {getattr(error, 'strerror', None) or error}", path) from None
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "something else")
        raise DataError(f"is {kind}, not a regular file; give a file", path)


def open_file(path, missing: str = "") -> BinaryIO:
    """Open a regular file for reading bytes; see :func:`require_file`.

    Raises:
        DataError: it is absent, no regular file, or may not be read.
    """
    require_file(path, missing)
    try:
        return open(path, "rb")
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", path) from None


def read_text(path, missing: str = "", limit: int = 1 << 30) -> str:
    """A whole UTF-8 text file, its lines ended by ``\\n``; see :func:`require_file`.

    Raises:
        DataError: it is absent, no regular file, larger than `limit` bytes, or not UTF-8.
    """
    with open_file(path, missing) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise DataError(f"has more than {limit:,} bytes, which no such file needs", path)
    try:
        return content.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"not UTF-8 ({error.reason} at byte {error.start}); convert it first", path, line) from None


def inflated(file: BinaryIO, path) -> BinaryIO:
    """The content of an open gzip file, inflated as it is read.

    Raises, when it is read:
        DataError: it inflates to more than `INFLATION` times its size (and more than `INFLATED_AT_LEAST`).
        EOFError, gzip.BadGzipFile, zlib.error: it is truncated or damaged.
    """
    limit = max(INFLATED_AT_LEAST, INFLATION * os.fstat(file.fileno()).st_size)
    return io.BufferedReader(_Inflated(file, path, limit), 1 << 20)


class _Inflated(io.RawIOBase):
    def __init__(self, file: BinaryIO, path, limit: int):
        self._stream, self._path, self._limit, self._read = gzip.GzipFile(fileobj=file), path, limit, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        count = self._stream.readinto(buffer)
        self._read += count
        if self._read > self._limit:
            raise DataError(
                f"inflates to more than {self._limit:,} bytes, {INFLATION} times what text does at most; if that is "
                "right, inflate it first (gunzip)",
                self._path,
            )
        return count


@contextlib.contextmanager
def saving(path):
    """What the system refuses while `path` is written in this block, a full disk above all, is said in one line.

    Raises:
        DataError: instead of an OSError, or of an error that stands for one.
    """
    try:
        yield
    except Exception as error:
        cause = _os_error(error)
        if cause is None:
            raise
        raise DataError(
            f"cannot be saved: {cause.strerror or cause}. What was saved before is intact; {_remedy(cause)} and run "
            "the same command again",
            path=path,
        ) from error


def _remedy(error: OSError) -> str:
    if error.errno in _NO_ROOM:
        return "make room"
    return "make it writable, or choose another place," if error.errno in _NOT_ALLOWED else "mend that"


def _os_error(error: Optional[BaseException]) -> Optional[OSError]:
    """torch.save hides a full disk behind a RuntimeError about file positions."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error


@contextlib.contextmanager
def atomic_path(path):
    """Yield a temporary path that replaces `path` when the block ends without an error.

    Raises:
        DataError: it cannot be written; `path` is as it was before.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with saving(path):
            yield temporary
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_or_keep(path: str, write: Callable[[BinaryIO], None]) -> None:
    """Write a file beside `path`, flush it to disk, then let it take the place of `path`.

    The temporary name is fixed, so that what a killed run left is overwritten by the next one.

    Raises:
        DataError: the file could not be written; `path` is as it was before.
    """
    temporary = f"{path}.tmp"
    try:
        with saving(path), open(temporary, "w+b") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
            os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)


def write_text(path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path, value) -> None:
    """Write `value` as indented JSON, atomically. NaN and infinity are refused (ValueError): JSON has none."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
