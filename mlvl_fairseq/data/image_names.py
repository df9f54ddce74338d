"""Image names are paths: one picture has one name, however a file spells it, and is found on the disk by it."""

import os
import posixpath
import re
import unicodedata
from functools import lru_cache
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np

from mlvl_fairseq.data.archives import archive_at
from mlvl_fairseq.errors import DataError

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_DRIVE = re.compile(r"[A-Za-z]:/")


def image_name(text: str, root=None) -> str:
    """The one name of a picture: what every comparison of image names compares.

    Unicode is composed (NFC), ``\\`` is ``/``, ``./`` and ``//`` vanish, ``x/../`` too, and space at both ends. What
    lies below `root` is named from there. Case is significant. A URL stays as it is.

    Args:
        text: as a caption file or a list of features spells it.
        root: folder that relative names start from; None: not known, then an absolute name stays absolute.

    Returns:
        a relative path with ``/``; where the name leaves the folder, an absolute path or one that begins with ``..``
        (:func:`is_outside`). Empty where nothing is named.
    """
    name = unicodedata.normalize("NFC", text.strip())
    if not name or _URL.match(name):
        return name
    name = _normal(name)
    if root is not None and is_outside(name):
        place = name if posixpath.isabs(name) else _normal(f"{_absolute(str(root))[0]}/{name}")
        for folder in _absolute(str(root)):
            if place == folder:
                return ""
            if place.startswith(folder.rstrip("/") + "/"):
                return place[len(folder.rstrip("/")) + 1 :]
    return "" if name == "." else name


def is_outside(name: str) -> bool:
    """Whether an :func:`image_name` leaves the folder that it starts from."""
    return name.startswith(("/", "../")) or name == ".." or bool(_DRIVE.match(name))


def refuse_outside(name: str, root, path=None, line: Optional[int] = None, field: Optional[str] = None) -> None:
    """Raises DataError: an :func:`image_name` leaves `root`; `path`, `line` and `field` say where it stands."""
    if is_outside(name):
        raise DataError(
            f"'{name}' is not below the image root '{root}'; mend the name or the root, or open files outside it with "
            "--allow-outside-root",
            path,
            line,
            field,
        )


def _normal(path: str) -> str:
    path = posixpath.normpath(path.replace("\\", "/"))
    return path[1:] if path.startswith("//") else path  # POSIX lets two slashes mean something of their own


@lru_cache(maxsize=64)
def _absolute(root: str) -> Tuple[str, ...]:
    """A folder's absolute path as typed, and with its links followed: names may hold either."""
    return tuple(
        _normal(unicodedata.normalize("NFC", path)) for path in (os.path.abspath(root), os.path.realpath(root))
    )


class ImageFolder:
    """The pictures below a folder, found by name whatever the spelling on the disk: macOS decomposes Unicode, archives
    packed on Windows may hold ``\\``. Links inside the folder are followed wherever they lead: its owner made them. An
    archive in it is a folder of its pictures (:mod:`mlvl_fairseq.data.archives`).

    Args:
        root: the folder.
        allow_outside: whether names may leave it.
    """

    def __init__(self, root, allow_outside: bool = False):
        self.root, self.allow_outside = str(root), allow_outside
        self._listings: Dict[str, Dict[str, Tuple[str, bool]]] = {}

    def path(self, name: str) -> str:
        """Where a picture is, or would be if there is none.

        Raises:
            DataError: the name leaves the folder, and may not.
        """
        name = image_name(name, self.root)
        if not self.allow_outside:
            refuse_outside(name, self.root)
        path = os.path.join(self.root, name)
        return path if os.path.lexists(path) else self._find(name) or path

    def require_inside(self, names: Sequence[str], path) -> None:
        """Check all names before the first picture is opened. `path`: the file that lists them, one a line.

        Raises:
            DataError: one leaves the folder, and may not.
        """
        for line, name in enumerate(names if not self.allow_outside else (), 1):
            refuse_outside(image_name(name, self.root), self.root, path, line)

    def files(self, folder: str) -> List[str]:
        """:func:`image_name` of every file of a folder below this one, as named from there; none if it is not there."""
        return [name for name, (_, is_file) in self._listing(os.path.join(self.root, folder)).items() if is_file]

    def missing(self, names: Sequence[str]) -> np.ndarray:
        """Rows (int64, ascending) of the names that are no files. Each folder is listed once: far fewer system calls
        than one look-up an image, above all on network disks."""
        found = (self._find(image_name(name, self.root)) is not None for name in names)
        return np.flatnonzero(~np.fromiter(found, bool, len(names)))

    def _find(self, name: str) -> Optional[str]:
        """The file of an :func:`image_name`, by the names that are on the disk; None: there is none."""
        if name.startswith(".."):
            name = _normal(f"{_absolute(self.root)[0]}/{name}")
        return self._below("/", name[1:]) if name.startswith("/") else self._below(self.root, name)

    def _below(self, folder: str, name: str) -> Optional[str]:
        listing, parts = self._listing(folder), name.split("/")
        for count in range(1, len(parts) + 1):  # an entry's name may hold what counts as a separator
            entry, is_file = listing.get("/".join(parts[:count]), (None, False))
            path = entry and os.path.join(folder, entry)
            if path and count == len(parts):
                return path if is_file else None
            found = path and self._below(path, "/".join(parts[count:]))
            if found:
                return found
        archive = archive_at(folder)
        return os.path.join(folder, name) if archive is not None and name in archive else None

    def _listing(self, folder: str) -> Dict[str, Tuple[str, bool]]:
        """Of each entry of a folder by its :func:`image_name`: its name on the disk, and whether it is a file."""
        if folder not in self._listings:
            entries = self._listings[folder] = {}
            try:
                with os.scandir(folder) as found:
                    for entry in found:
                        name = image_name(entry.name)
                        if name == entry.name or name not in entries:
                            entries[name] = (entry.name, entry.is_file())
            except OSError:
                pass  # nothing is found there
        return self._listings[folder]
