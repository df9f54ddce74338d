"""Pictures in archives: tar files (webdataset, img2dataset), Parquet files, an LMDB."""

import os
from pathlib import Path
from typing import List

from mlvl_fairseq.data.archives import archive_at, kind_at
from mlvl_fairseq.data.data_files import is_data
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.search.sources.base import register_source
from mlvl_fairseq.search.sources.files import FileSource, storable
from mlvl_fairseq.search.sources.folder import SUFFIXES


@register_source("archives")
class ArchiveSource(FileSource):
    """A tar, Parquet or LMDB archive of pictures, or a folder of archives that holds no pictures beside.

    A picture's name is its archive's and its own: ``00000.tar/000000123.jpg``.
    """

    @staticmethod
    def recognises(path: Path) -> bool:
        if kind_at(str(path)) is not None:
            return True
        files = _files(path)
        return not any(name.lower().endswith(SUFFIXES) for name in files) and any(map(_is_archive(path), files))

    def root(self) -> str:
        return str(self.path.parent if kind_at(str(self.path)) else self.path)

    def names(self) -> List[str]:
        if not self.path.exists():
            raise DataError("no such file or folder", self.path)
        root = Path(self.root())
        archives = [self.path.name] if root != self.path else filter(_is_archive(root), _files(root))
        found = [f"{archive}/{name}" for archive in archives for name in archive_at(root / archive).names()]
        return storable(sorted(found), self.path)


def _files(path: Path) -> List[str]:
    """What lies in a folder and is not hidden."""
    return sorted(filter(is_data, os.listdir(path))) if path.is_dir() else []


def _is_archive(folder: Path):
    return lambda name: kind_at(str(folder / name)) is not None
