"""Parquet files with a column of pictures, as img2dataset and Hugging Face's data sets have them."""

import threading
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Tuple

import numpy as np

from mlvl_fairseq.data.archives.base import MAX_PICTURE, Archive, head_of, register_archive
from mlvl_fairseq.errors import DataError, UserError, one_line

PREFERRED = ("image", "jpg", "jpeg", "png", "webp", "img", "picture")
ROWS = 1024  # whose captions are in memory together
MAX_GROUP = 1 << 32  # bytes of pictures of a row group, which are in memory together


@register_archive("parquet")
class ParquetArchive(Archive):
    """A Parquet file; a picture is called by its row, from 0: ``part-0.parquet/17``. Its column is binary, or has a
    field ``bytes``. The pictures of one row group are in memory at a time, so that rows in order are read once."""

    def __init__(self, path: str):
        super().__init__(path)
        try:
            import pyarrow.parquet
        except ImportError:
            message = f"{path}: pyarrow reads Parquet files: pip install 'mlvl_fairseq[parquet]'"
            raise UserError(message) from None
        with self._damage():
            self._file = pyarrow.parquet.ParquetFile(path, memory_map=True)
        groups = [self._file.metadata.row_group(group).num_rows for group in range(self._file.num_row_groups)]
        self._starts = np.cumsum([0, *groups])
        self._column, self._others = self._columns()
        self._lock, self._kept = threading.Lock(), (-1, [])

    @classmethod
    def recognises(cls, path: str) -> bool:
        return head_of(path)[:4] == b"PAR1"

    def _columns(self) -> Tuple[str, List[str]]:
        """The column of pictures, and those of plain values."""
        import pyarrow.types as types

        schema = self._file.schema_arrow
        binary = [field.name for field in schema if types.is_binary(field.type) or types.is_large_binary(field.type)]
        structs = [field.name for field in schema if types.is_struct(field.type)]
        found = [name for name in structs if schema.field(name).type.get_field_index("bytes") >= 0] + binary
        named = [name for name in PREFERRED if name in found] or found
        if not named or len(found) > 1 and named == found:
            several = f"there are {', '.join(found)}" if found else "there is none"
            message = f"pictures are expected in a binary column, called {PREFERRED[0]} if there are several; {several}"
            raise DataError(message, self.path)
        return named[0], [field.name for field in schema if field.name not in (*found, *structs)]

    @contextmanager
    def _damage(self) -> Iterator[None]:
        import pyarrow

        try:
            yield
        except (pyarrow.ArrowException, OSError) as error:
            raise DataError(f"is damaged or no Parquet file ({one_line(error)})", self.path) from None

    def names(self) -> List[str]:
        return list(map(str, range(self._starts[-1])))

    def __contains__(self, name: str) -> bool:
        return name.isdecimal() and name == str(int(name)) and int(name) < self._starts[-1]

    def read(self, name: str) -> bytes:
        if name not in self:
            raise self.missing(name)
        row = int(name)
        group = int(np.searchsorted(self._starts, row, side="right")) - 1
        with self._lock:
            if self._kept[0] != group:
                self._kept = group, self._group(group)
            value = self._kept[1][row - int(self._starts[group])].as_py()
        content = value.get("bytes") if isinstance(value, dict) else value
        if not content:
            raise DataError(f"row {name} has no picture", self.path)
        if len(content) > MAX_PICTURE:
            raise DataError(f"row {name} has {len(content):,} bytes, which no picture needs", self.path)
        return content

    def _group(self, group: int):
        """The pictures of a row group, as an array of pyarrow."""
        metadata = self._file.metadata.row_group(group)
        columns = [metadata.column(number) for number in range(metadata.num_columns)]
        own = [column for column in columns if column.path_in_schema.partition(".")[0] == self._column]
        size = sum(column.total_uncompressed_size for column in own)
        if size > MAX_GROUP:
            raise DataError(f"row group {group} holds {size:,} bytes of pictures; write smaller groups", self.path)
        with self._damage():
            return self._file.read_row_group(group, [self._column]).column(0)

    def rows(self, skip) -> Iterator[Tuple[int, Dict[str, Any]]]:
        """Number of a row, and its plain fields."""
        row = 0
        with self._damage():
            for batch in self._file.iter_batches(ROWS, columns=self._others):
                for fields in batch.to_pylist() or [{}] * batch.num_rows:
                    row += 1
                    yield row, {**fields, "image": str(row - 1)}
