"""Files that hold many pictures, read as if they were folders: ``shards/00000.tar/000017.jpg`` is a picture.

A kind of archive is one file of ``kinds/``, told by content. Whatever opens pictures by their paths
(`mlvl_fairseq.data.images.reading.load_image`) opens these, too; ``--image-root shards`` is all that has to be said.
"""

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
from mlvl_fairseq.registry import import_modules

import_modules(kinds.__name__)

__all__ = ["ARCHIVES", "Archive", "archive_at", "archived", "is_picture", "kind_at", "register_archive", "stamp_of"]
