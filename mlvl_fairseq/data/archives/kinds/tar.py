"""Tar archives in webdataset's layout: ``000017.jpg`` beside ``000017.json`` or ``000017.txt``."""

import logging
import os
from typing import Any, Dict, Iterator, List, Optional, Tuple

import msgspec
import numpy as np

from mlvl_fairseq.arrays import read_arrays, write_arrays
from mlvl_fairseq.data.archives.base import MAX_PICTURE, Archive, head_of, register_archive
from mlvl_fairseq.data.data_files import ARCHIVE_INDEX as INDEX
from mlvl_fairseq.data.tar_files import is_tar, tar_members
from mlvl_fairseq.errors import DataError, one_line
from mlvl_fairseq.files import open_file

logger = logging.getLogger(__name__)

VERSION = 1
PICTURES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
TEXTS = (".json", ".txt")  # of two, the first says more
_SHAPES = {
    "stamp": ("int64", (3,)),
    "places": ("int64", ("n", 2)),
    "ends": ("int64", ("n",)),
    "names": ("uint8", ("n",)),
}
_ADVICE = "delete it, it is made again"


@register_archive("tar")
class TarArchive(Archive):
    """A tar archive. Where its members are is found once and kept beside it, in ``NAME.tar.index.npz``, with the size
    and time of the archive; where that cannot be written, it is found again by every process."""

    def __init__(self, path: str):
        super().__init__(path)
        if not is_tar(head_of(path)):
            raise DataError("is no plain tar archive (compressed?): unpack it, or pack it again", path)
        status = os.stat(path)
        stamp = np.array([VERSION, status.st_size, status.st_mtime_ns], np.int64)
        index = self._kept(stamp) or self._made(stamp, status.st_size)
        blob, ends = index["names"].tobytes(), index["ends"].tolist()
        names = [blob[start:end].decode("utf-8", "surrogateescape") for start, end in zip([0, *ends], ends)]
        self._place: Dict[str, Tuple[int, int]] = {name: tuple(at) for name, at in zip(names, index["places"].tolist())}

    @classmethod
    def recognises(cls, path: str) -> bool:
        head = head_of(path)
        return is_tar(head) or bool(head) and path.lower().endswith(".tar")

    def _kept(self, stamp: np.ndarray) -> Optional[Dict[str, np.ndarray]]:
        """The index that is there, if it is of the archive as it is now."""
        if not os.path.exists(self.path + INDEX):
            return None
        index = read_arrays(self.path + INDEX, _SHAPES, _ADVICE)
        return index if np.array_equal(index["stamp"], stamp) else None

    def _made(self, stamp: np.ndarray, size: int) -> Dict[str, np.ndarray]:
        found = [
            (name.encode("utf-8", "surrogateescape"), place, length)
            for name, place, length in tar_members(self.path, size)
            if _ending(name) in (*PICTURES, *TEXTS)
        ]
        index = {
            "stamp": stamp,
            "places": np.array([at for _, *at in found], np.int64).reshape(-1, 2),
            "ends": np.cumsum([len(name) for name, *_ in found], dtype=np.int64),
            "names": np.frombuffer(b"".join(name for name, *_ in found), np.uint8),
        }
        try:
            write_arrays(self.path + INDEX, index)
        except (DataError, OSError) as error:
            message = "%s: its index cannot be kept, each process looks for its pictures again (%s)"
            logger.warning(message, self.path, error)
        return index

    def names(self) -> List[str]:
        return [name for name in self._place if _ending(name) in PICTURES]

    def __contains__(self, name: str) -> bool:
        return name in self._place and _ending(name) in PICTURES

    def read(self, name: str) -> bytes:
        if name not in self:
            raise self.missing(name)
        return self._content(name)

    def _content(self, name: str) -> bytes:
        place, size = self._place[name]
        if size > MAX_PICTURE:
            raise DataError(f"'{name}' has {size:,} bytes, which no picture needs", self.path)
        with open_file(self.path) as file:
            file.seek(place)
            return file.read(size)

    def rows(self, skip) -> Iterator[Tuple[int, Dict[str, Any]]]:
        """Number of a picture, and the fields of the .json beside it, or the .txt as ``caption``."""
        texts: Dict[str, str] = {}
        for ending in reversed(TEXTS):
            texts.update({_key(name): name for name in self._place if _ending(name) == ending})
        for number, name in enumerate(self.names(), 1):
            text = texts.get(_key(name))
            try:
                fields = self._fields(text) if text else {}
            except DataError as error:
                skip(number, f"'{text}': {error}")
                continue
            yield number, {**fields, "image": name}

    def _fields(self, name: str) -> Dict[str, Any]:
        """Raises DataError: it is no JSON object, or no UTF-8."""
        content = self._content(name)
        try:
            if _ending(name) == ".txt":
                return {"caption": content.decode("utf-8")}
            fields = msgspec.json.decode(content)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise DataError(f"cannot be read: {one_line(error)}") from None
        if not isinstance(fields, dict):
            raise DataError("is no JSON object")
        return fields


def _ending(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _key(name: str) -> str:
    """What members of one record share: their names up to the first dot, as webdataset has it."""
    folder, _, base = name.rpartition("/")
    return f"{folder}/{base.partition('.')[0]}"
