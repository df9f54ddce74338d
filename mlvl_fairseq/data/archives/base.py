"""What an archive offers, and how a path that leads into one is found."""

import os
import threading
from abc import ABC, abstractmethod
from typing import Any, Callable, ClassVar, Dict, Iterator, List, Optional, Tuple, Type

from mlvl_fairseq.errors import DataError
from mlvl_fairseq.registry import registering

MAX_PICTURE = 1 << 28  # bytes
HEAD = 512  # bytes by which kinds are told
Stamp = Tuple[int, int]  # size and time of a file


class Archive(ABC):
    """A file (or folder) with pictures by name, opened for reading. Threads may share it, processes may not.

    Args:
        path: where it is.

    Attributes:
        kind: its name; `register_archive` sets it.
        has_captions: whether texts lie beside its pictures, see :meth:`rows`.
    """

    kind: ClassVar[str]
    has_captions: ClassVar[bool] = True

    def __init__(self, path: str):
        self.path = path

    @classmethod
    @abstractmethod
    def recognises(cls, path: str) -> bool:
        """Whether something that exists is one of this kind, by its first bytes."""

    @abstractmethod
    def names(self) -> List[str]:
        """Of all pictures, in the order of the archive."""

    @abstractmethod
    def __contains__(self, name: str) -> bool:
        """Whether there is a picture of that name."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """The bytes of a picture's file. Raises DataError: there is none of that name, or it cannot be read."""

    def rows(self, skip: Callable[[int, str], None]) -> Iterator[Tuple[int, Dict[str, Any]]]:
        """Yield what stands beside each picture: its number from 1, and fields, of which ``image`` is the name.

        Args:
            skip: is told the number of a record that cannot be used, and why.
        """
        raise DataError("holds pictures without captions: give these in a file of their own", self.path)

    def missing(self, name: str) -> DataError:
        """The error that there is no such picture."""
        return DataError(f"there is no picture '{name}' in it", self.path)


ARCHIVES: Dict[str, Type[Archive]] = {}
_open: Dict[Tuple[int, str], Tuple[Stamp, Optional[Archive]]] = {}  # by process and path; None: no archive
_lock = threading.Lock()


def register_archive(kind: str) -> Callable[[Type[Archive]], Type[Archive]]:
    """Class decorator: make a kind of archive known."""
    return registering(ARCHIVES, "a kind of archive", kind, kind=kind)


def kind_at(path: str) -> Optional[Type[Archive]]:
    """What kind of archive stands at a path, by its first bytes; None: none."""
    return next((kind for kind in ARCHIVES.values() if kind.recognises(path)), None)


def archive_at(path) -> Optional[Archive]:
    """The archive that stands at a path, opened once a process, and again when its file has changed; None: nothing is
    there, or something else.

    Raises:
        DataError: it is damaged. UserError: what reads it is not installed.
    """
    path = os.fspath(path)
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    stamp, key = (status.st_size, status.st_mtime_ns), (os.getpid(), path)
    with _lock:
        known = _open.get(key)
        if known is None or known[0] != stamp:
            kind = kind_at(path)
            _open[key] = known = stamp, kind and kind(path)
    return known[1]


def archived(path) -> Optional[Tuple[Archive, str]]:
    """The archive that a path leads into, and the name of the picture there (which may be missing); None: it leads into
    none.

    Raises:
        DataError, UserError: see :func:`archive_at`.
    """
    place, parts = os.fspath(path), []
    while not os.path.lexists(place):
        place, part = os.path.split(place)
        if not part:
            return None
        parts.append(part)
    archive = archive_at(place) if parts else None
    return None if archive is None else (archive, "/".join(reversed(parts)))


def stamp_of(path) -> Stamp:
    """Size and time of a picture's file, or of the archive that it is in.

    Raises:
        OSError: there is no such picture.
    """
    try:
        status = os.stat(path)
    except OSError:
        found = archived(path)
        if found is None or found[1] not in found[0]:
            raise
        status = os.stat(found[0].path)
    return status.st_size, status.st_mtime_ns


def is_picture(path) -> bool:
    """Whether there is a file at a path, or a picture of an archive."""
    found = archived(path)
    return os.path.isfile(path) if found is None else found[1] in found[0]


def head_of(path: str) -> bytes:
    """The first bytes of a regular file; empty of anything else."""
    if not os.path.isfile(path):
        return b""
    try:
        with open(path, "rb") as file:
            return file.read(HEAD)
    except OSError:
        return b""
