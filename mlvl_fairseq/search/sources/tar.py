"""Pictures in tar archives, as webdataset and img2dataset write them."""

import io
import os
import tarfile
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Dict, List, Sequence, Tuple

import numpy as np

from mlvl_fairseq.errors import DataError
from mlvl_fairseq.files import open_file
from mlvl_fairseq.search.sources.base import NO_FILE, Source, register_source
from mlvl_fairseq.search.sources.files import storable
from mlvl_fairseq.search.sources.folder import SUFFIXES

if TYPE_CHECKING:
    from PIL import Image

    from mlvl_fairseq.data.images.reading import LoadedImage

MAX_BYTES = 1 << 28  # of a picture
SHARDS = 64  # whose contents are remembered


@register_source("tar")
class TarSource(Source):
    """A tar archive (.tar, not compressed), or a folder of them that holds no pictures beside.

    A picture's name is its archive's and its own: ``00000.tar/000000123.jpg``.
    """

    @staticmethod
    def recognises(path: Path) -> bool:
        if path.is_dir():
            names = [entry.name.lower() for entry in os.scandir(path) if entry.is_file()]
            return any(map(_is_archive, names)) and not any(name.endswith(SUFFIXES) for name in names)
        return _is_archive(path.name.lower())

    def names(self) -> List[str]:
        if not self.path.exists():
            raise DataError("no such file or folder", self.path)
        found = [f"{shard}/{name}" for shard in self._shards() for name in self._members(shard)]
        return storable(sorted(found), self.path)

    def stamps(self, names: Sequence[str]) -> np.ndarray:
        stamps = np.full((len(names), 2), NO_FILE, np.int64)
        for row, name in enumerate(names):
            shard, _, member = name.partition(".tar/")
            members = self._members(f"{shard}.tar")
            if member in members:
                stamps[row] = members[member][1], os.stat(self._file(f"{shard}.tar")).st_mtime_ns
        return stamps

    def dataset(self, names: Sequence[str], transform: Callable) -> "_Members":
        return _Members(self, names, transform)

    def picture(self, name: str, max_pixels: int) -> "Image.Image":
        from mlvl_fairseq.data.images.reading import decode_image

        return decode_image(io.BytesIO(self._bytes(name)), f"{self.path}: {name}", max_pixels=max_pixels)

    def _shards(self) -> List[str]:
        if self.path.is_file():
            return [self.path.name]
        return sorted(entry.name for entry in os.scandir(self.path) if entry.name.endswith(".tar") and entry.is_file())

    def _file(self, shard: str) -> Path:
        return self.path if self.path.is_file() else self.path / shard

    def _members(self, shard: str) -> Dict[str, Tuple[int, int]]:
        path = self._file(shard)
        try:
            return _members_of(str(path), os.stat(path).st_mtime_ns)
        except FileNotFoundError:
            return {}

    def _bytes(self, name: str) -> bytes:
        shard, _, member = name.partition(".tar/")
        place, size = self._members(f"{shard}.tar").get(member, (0, MAX_BYTES + 1))
        if size > MAX_BYTES:
            raise DataError(f"no such picture, or one of more than {MAX_BYTES:,} bytes", f"{self.path}: {name}")
        with open_file(self._file(f"{shard}.tar")) as file:
            file.seek(place)
            return file.read(size)


def _is_archive(name: str) -> bool:
    return name.endswith(".tar") and not name.startswith(".")


@lru_cache(maxsize=SHARDS)
def _members_of(path: str, changed: int) -> Dict[str, Tuple[int, int]]:
    """Pictures of an archive as it was at that time: name -> place and size of their bytes.

    Raises:
        DataError: it is damaged, or compressed.
    """
    try:
        with open_file(path) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            pictures = (one for one in archive if one.isreg() and one.name.lower().endswith(SUFFIXES))
            return {one.name: (one.offset_data, one.size) for one in pictures}
    except tarfile.TarError as error:
        raise DataError(f"is damaged, or no plain tar archive ({error}); unpack or pack it again", path) from None


class _Members:
    """`LoadedImage` of each name; what torch calls a Dataset."""

    def __init__(self, source: TarSource, names: Sequence[str], transform: Callable):
        self.source, self.names, self.transform = source, list(names), transform

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> "LoadedImage":
        from mlvl_fairseq.data.images.reading import MAX_PIXELS, LoadedImage, as_pixels

        name = self.names[index]
        try:
            image = self.source.picture(name, MAX_PIXELS)
        except DataError as error:
            return LoadedImage(None, str(error))
        return as_pixels(image, self.transform, f"{self.source.path}: {name}")
