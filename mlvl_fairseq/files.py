"""Files that users give and that commands leave for each other.

What is read is a regular file, and inflates to a bounded size. What is written appears whole or not at all: beside its
place, flushed to disk, then renamed.
"""

import contextlib
import errno
import fcntl
import glob
import gzip
import io
import json
import os
import shutil
import stat
import zipfile
from pathlib import Path
from typing import BinaryIO, Callable, Optional

from mlvl_fairseq.errors import DataError, MissingFileError, UserError

INFLATION = 100  # text deflates to a third or a fifth, very repetitive text to a fiftieth; a bomb to a thousandth
INFLATED_AT_LEAST = 4 << 20  # bytes that the beginning of any file may inflate to
MAX_TEXT = 64 << 20  # bytes of a file that is read whole: XLM-R's dictionary has 5 million
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
        raise MissingFileError("no such file" + (f"; {missing}" if missing else ""), path) from None
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


def read_text(path, missing: str = "", limit: int = MAX_TEXT) -> str:
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
        DataError: what has been read inflates to more than `INFLATION` times its size (and to more than
            `INFLATED_AT_LEAST`).
        EOFError, gzip.BadGzipFile, zlib.error: it is truncated or damaged.
    """
    return io.BufferedReader(_Inflated(file, path), 1 << 20)


class _Inflated(io.RawIOBase):
    def __init__(self, file: BinaryIO, path):
        self._file, self._stream, self._path, self._read = file, gzip.GzipFile(fileobj=file), path, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        count = self._stream.readinto(buffer)
        self._read += count
        if self._read > max(INFLATED_AT_LEAST, INFLATION * self._file.tell()):
            raise DataError(
                f"inflates {self._file.tell():,} bytes to {self._read:,}, which text does not; if that is right, "
                "inflate it first (gunzip)",
                self._path,
            )
        return count


def unzipped(file: BinaryIO, path) -> BinaryIO:
    """The content of the one file in an open zip archive, inflated as it is read; what macOS packs beside it is none.

    Raises:
        DataError: the archive holds several files or none, a locked one, or one of more than `INFLATION` times the size
            that it has there (and than `INFLATED_AT_LEAST`).
        zipfile.BadZipFile, zlib.error: it is truncated or damaged; also when it is read.
    """
    archive = zipfile.ZipFile(file)
    members = [one for one in archive.infolist() if not one.is_dir() and not one.filename.startswith("__MACOSX/")]
    if len(members) != 1:
        raise DataError(f"is a zip archive of {len(members)} files: unpack it and give one of them (unzip)", path)
    (member,) = members
    if member.file_size > max(INFLATED_AT_LEAST, INFLATION * member.compress_size):
        raise DataError(
            f"inflates {member.compress_size:,} bytes to {member.file_size:,}, which text does not; if that is right, "
            "unpack it first (unzip)",
            path,
        )
    try:
        return io.BufferedReader(archive.open(member), 1 << 20)
    except (RuntimeError, NotImplementedError) as error:  # locked, or packed in another way
        raise DataError(f"cannot be unpacked here ({error}): unpack it first (unzip)", path) from None


def require_room(folder, needed: int, what: str) -> None:
    """Look whether something fits before it is begun.

    Args:
        folder: where it is going to be; it need not exist yet. needed: bytes. what: plural, for the message.

    Raises:
        UserError: it does not.
    """
    there = next(path for path in (Path(folder), *Path(folder).absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise UserError(
            f"{there}: {what} need at least {needed / 2**20:,.0f} MiB, {free / 2**20:,.0f} MiB are free: make room, or "
            "give another folder"
        )


@contextlib.contextmanager
def saving(path):
    """What the system refuses while `path` is written in this block, a full disk above all, is said in one line.

    Raises:
        DataError: instead of an OSError, or of an error that stands for one.
    """
    try:
        yield
    except UserError:  # which says it already, or something else
        raise
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

    The temporary file is locked while the block lasts, on every machine that shares the file system: one without a
    lock is what a process left that was killed, and is removed.

    Raises:
        DataError: it cannot be written; `path` is as it was before.
    """
    path = Path(path)
    remove_left_over(path.parent, path.name)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with saving(path), _locked(temporary):
            yield temporary
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_left_over(folder, name: str = "*") -> None:
    """Remove what killed processes have left of the files that :func:`atomic_path` writes in a folder.

    Args:
        name: of the file; by default any.
    """
    name = name if name == "*" else glob.escape(name)
    for path in Path(folder).glob(f".{name}.*.tmp"):
        if path.name.rpartition(".tmp")[0].rpartition(".")[2].isdecimal() and path.is_file() and not path.is_symlink():
            with contextlib.suppress(OSError), open(path, "rb") as file:  # OSError: locked; or there are no locks here
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()


@contextlib.contextmanager
def _locked(path: Path):
    """Make a file and hold a lock on it; where the file system has no locks, just make it."""
    with contextlib.ExitStack() as stack:
        held = False
        while not held:  # another process may remove it between the two steps
            file = stack.enter_context(open(path, "ab"))
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
            held = path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat())
        yield


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
