"""A folder of pictures."""

import logging
import os
from pathlib import Path
from typing import List

from mlvl_fairseq.errors import DataError
from mlvl_fairseq.search.sources.base import register_source
from mlvl_fairseq.search.sources.files import FileSource, storable

logger = logging.getLogger(__name__)
SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


@register_source("folder")
class FolderSource(FileSource):
    """A folder with pictures in it or in folders below.

    Folders and files whose names begin with a dot are left out, and links to folders are not followed.
    """

    order = 1

    @staticmethod
    def recognises(path: Path) -> bool:
        return path.is_dir()

    def names(self) -> List[str]:
        if not self.path.is_dir():
            raise DataError("no such folder", self.path)
        found, others = [], 0
        for folder, below, files in os.walk(self.path):
            below[:] = [name for name in below if not name.startswith(".")]
            shown = [name for name in files if not name.startswith(".")]
            pictures = [name for name in shown if name.lower().endswith(SUFFIXES)]
            others += len(shown) - len(pictures)
            prefix = os.path.relpath(folder, self.path)
            found += pictures if prefix == "." else [os.path.join(prefix, name) for name in pictures]
        if others:
            logger.info("%s: %d files are no pictures by their names, and left out", self.path, others)
        return storable(sorted(found), self.path)
