"""Files that hold many pictures, read as if they were folders: ``shards/00000.tar/000017.jpg`` is a picture.

A kind of archive is one file of ``kinds/``, told by content. Whatever opens pictures by their paths
(`mlvl_fairseq.data.images.reading.load_image`) opens these, too; ``--image-root shards`` is all that has to be said.
"""

import importlib
import pkgutil

from mlvl_fairseq.data.archives import kinds
from mlvl_fairseq.data.archives.base import (
    ARCHIVES,
    Archive,
    archive_at,
    archived,
    is_picture,
    kind_at,
    register_archive,
    stamp_of,
)

for _module in pkgutil.iter_modules(kinds.__path__):
    importlib.import_module(f"{kinds.__name__}.{_module.name}")

__all__ = ["ARCHIVES", "Archive", "archive_at", "archived", "is_picture", "kind_at", "register_archive", "stamp_of"]
