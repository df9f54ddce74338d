"""LMDB: pictures by key."""

import os
import struct
from typing import List

from mlvl_fairseq.data.archives.base import MAX_PICTURE, Archive, head_of, register_archive
from mlvl_fairseq.errors import DataError, UserError, one_line

_MAGIC = struct.pack("=I", 0xBEEFC0DE)
_DATA = "data.mdb"


@register_archive("lmdb")
class LmdbArchive(Archive):
    """An LMDB, a file or a folder with data.mdb, whose values are the files of pictures: ``train.lmdb/KEY``. Keys that
    begin with ``__`` are none of pictures. The library maps the file into memory and trusts it: read your own only."""

    has_captions = False

    def __init__(self, path: str):
        super().__init__(path)
        try:
            import lmdb
        except ImportError:
            raise UserError(f"{path}: lmdb reads it: pip install 'mlvl_fairseq[lmdb]'") from None
        try:
            self._environment = lmdb.open(
                path, subdir=os.path.isdir(path), readonly=True, lock=False, readahead=False, max_readers=1024
            )
        except lmdb.Error as error:
            raise DataError(f"is damaged or no LMDB ({one_line(error)})", path) from None

    @classmethod
    def recognises(cls, path: str) -> bool:
        return head_of(os.path.join(path, _DATA) if os.path.isdir(path) else path)[16:20] == _MAGIC

    def names(self) -> List[str]:
        with self._environment.begin() as transaction:
            keys = [bytes(key) for key in transaction.cursor().iternext(keys=True, values=False)]
        return [key.decode("utf-8", "surrogateescape") for key in keys if not key.startswith(b"__")]

    def __contains__(self, name: str) -> bool:
        return self._value(name) is not None

    def read(self, name: str) -> bytes:
        value = self._value(name)
        if value is None:
            raise self.missing(name)
        if len(value) > MAX_PICTURE:
            raise DataError(f"'{name}' has {len(value):,} bytes, which no picture needs", self.path)
        return value

    def _value(self, name: str):
        key = name.encode("utf-8", "surrogateescape")
        if not key or len(key) > self._environment.max_key_size() or key.startswith(b"__"):
            return None
        with self._environment.begin() as transaction:
            return transaction.get(key)
