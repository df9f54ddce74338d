"""Files of records, and where each record is in them: found once, kept in an ``.index.npy`` of numbers.

A container is a kind of such file, told by its content: lines of JSON, or a tar archive in webdataset's layout
(``000.jpg`` beside ``000.json`` or ``000.txt``).
"""

import hashlib
import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import List, NamedTuple, Optional, Tuple, Type

import numpy as np
from tqdm import tqdm

from mlvl_fairseq.arrays import map_array, write_array
from mlvl_fairseq.data.data_files import INDEX_SUFFIX
from mlvl_fairseq.data.tar_files import is_tar, tar_members
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.files import open_file

VERSION = 1
MAX_RECORD = 1 << 28  # bytes; a picture of 100 megabytes in base64
_CHUNK = 1 << 22
_STAMP = 3  # numbers an index begins with: its version, size and time of the file
_PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
_ADVICE = "delete it, it is made again"


class Content(NamedTuple):
    """A record as it is in its file.

    Attributes:
        text: bytes of JSON, or of a caption; None: there are none. is_json: which of the two.
        picture: bytes of the picture beside it; None: it has none. line: of the file, or number in the archive, from 1.
    """

    text: Optional[bytes]
    is_json: bool
    picture: Optional[bytes]
    line: int


class Container(ABC):
    """An indexed file.

    Args:
        path: the file. index: int64, see :meth:`scan`.
    """

    def __init__(self, path: str, index: np.ndarray):
        self.path, self.index = path, index

    @classmethod
    @abstractmethod
    def detect(cls, head: bytes) -> bool:
        """Whether a file that begins so (512 bytes, or all there are) is one."""

    @classmethod
    @abstractmethod
    def scan(cls, path: str) -> np.ndarray:
        """int64, one-dimensional: where its records are. Raises DataError: the file is damaged."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, descriptor: int, record: int) -> Content:
        """A record by its number. `descriptor`: of the open file."""


class Lines(Container):
    """A record a line. The index: where each line begins, blank ones too, and the end of the file."""

    def __init__(self, path: str, index: np.ndarray):
        super().__init__(path, index)
        full = np.diff(index) > 2  # two bytes: an end of line, perhaps as Windows has it
        self._rows = None if full.all() else np.flatnonzero(full)

    @classmethod
    def detect(cls, head: bytes) -> bool:
        return True

    @classmethod
    def scan(cls, path: str) -> np.ndarray:
        starts, position, size = [np.zeros(1, np.int64)], 0, os.path.getsize(path)
        with open_file(path) as file, _progress(path, size) as bar:
            for chunk in iter(lambda: file.read(_CHUNK), b""):
                if not position:
                    _require_lines(chunk, path)
                ends = np.flatnonzero(np.frombuffer(chunk, np.uint8) == 10)
                starts.append(ends + (position + 1))
                position += len(chunk)
                bar.update(len(chunk))
        found = np.concatenate(starts)
        return found if found[-1] == position else np.append(found, position)

    def __len__(self) -> int:
        return len(self.index) - 1 if self._rows is None else len(self._rows)

    def read(self, descriptor: int, record: int) -> Content:
        row = record if self._rows is None else int(self._rows[record])
        start, end = int(self.index[row]), int(self.index[row + 1])
        if end - start > MAX_RECORD:
            raise DataError(f"has {end - start:,} bytes, which no record needs; cut it out", self.path, row + 1)
        return Content(os.pread(descriptor, end - start, start), True, None, row + 1)


class Tar(Container):
    """An archive whose members with one name but for their endings are a record. The index, four numbers a record:
    place and bytes of its text, and of its picture; bytes of a caption (``.txt``) are negative, -1 stands for nothing.
    """

    @classmethod
    def detect(cls, head: bytes) -> bool:
        return is_tar(head)

    @classmethod
    def scan(cls, path: str) -> np.ndarray:
        rows: List[Tuple[int, ...]] = []
        size, last = os.path.getsize(path), None
        with _progress(path, size) as bar:
            for name, place, length in tar_members(path, size):
                bar.update(place + length - bar.n)
                folder, _, base = name.rpartition("/")
                key, ending = f"{folder}/{base.partition('.')[0]}", os.path.splitext(base)[1].lower()
                if ending not in (*_PICTURES, ".json", ".txt"):
                    continue
                if key != last:
                    rows.append((-1, 0, -1, 0))
                    last = key
                text, text_length, picture, picture_length = rows[-1]
                if ending in _PICTURES:
                    picture, picture_length = place, length
                elif ending == ".json" or text < 0:  # beside a .json, a .txt says nothing more
                    text, text_length = place, length if ending == ".json" else -length
                rows[-1] = text, text_length, picture, picture_length
        return np.array(rows, np.int64).reshape(-1)

    def __len__(self) -> int:
        return len(self.index) // 4

    def read(self, descriptor: int, record: int) -> Content:
        text, length, picture, picture_length = map(int, self.index[4 * record : 4 * record + 4])
        if max(abs(length), picture_length) > MAX_RECORD:
            raise DataError(f"has more than {MAX_RECORD:,} bytes, which no record needs", self.path, record + 1)
        return Content(
            None if text < 0 else os.pread(descriptor, abs(length), text),
            length > 0,
            None if picture < 0 else os.pread(descriptor, picture_length, picture),
            record + 1,
        )


CONTAINERS: Tuple[Type[Container], ...] = (Tar, Lines)  # the last one takes what is no other


def open_container(path: str, index_folder: str = "") -> Container:
    """A file with its index, which is made if it is not there, or not of the file as it is now (by size and time).

    Args:
        index_folder: where indices are; empty: beside the files.

    Raises:
        DataError: the file is damaged, or of no kind that is read. UserError: the index cannot be written.
    """
    with open_file(path) as file:
        head = file.read(512)
    kind = next(kind for kind in CONTAINERS if kind.detect(head))
    status, place = os.stat(path), _index_path(path, index_folder)
    stamp = np.array([VERSION, status.st_size, status.st_mtime_ns], np.int64)
    if place.exists():
        index = map_array(place, ["int64"], ("n",), _ADVICE)
        if np.array_equal(index[:_STAMP], stamp):
            return kind(path, index[_STAMP:])
    found = np.concatenate([stamp, kind.scan(path)])
    try:
        if index_folder:
            os.makedirs(index_folder, exist_ok=True)
        write_array(place, found)
    except (DataError, OSError) as error:
        reason = getattr(error.__cause__ or error, "strerror", None) or error
        raise UserError(
            f"{place}: the index of the records cannot be written ({reason}): say with --index-folder where"
        ) from None
    return kind(path, map_array(place, ["int64"], ("n",), _ADVICE)[_STAMP:])


def _index_path(path: str, index_folder: str) -> Path:
    if not index_folder:
        return Path(f"{path}{INDEX_SUFFIX}")
    digest = hashlib.sha256(os.path.abspath(path).encode("utf-8", "surrogateescape")).hexdigest()
    return Path(index_folder) / f"{os.path.basename(path)}.{digest[:12]}{INDEX_SUFFIX}"


def _progress(path: str, size: int) -> tqdm:
    return tqdm(total=size, desc=f"index of {os.path.basename(path)}", unit="B", unit_scale=True, leave=False)


def _require_lines(head: bytes, path: str) -> None:
    """Raises DataError: a file that begins so has no JSON lines."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if head[:2] == b"\x1f\x8b":
        raise DataError("is compressed, so that no record can be found in it; inflate it first (gunzip)", path)
    if start == b"[":
        raise DataError("is a JSON list; one object a line is expected (jq -c '.[]' makes them)", path)
    if start != b"{":
        raise DataError("does not begin with a JSON object; one object a line is expected, or a tar archive", path)
