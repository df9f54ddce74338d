"""An index folder, opened for reading.

```
OUT/index.json                 what there is (search/manifest.py); nothing else is believed
OUT/parts/000003/images.txt    names of pictures, one a line: the rows of a part
OUT/parts/000003/vectors.npy   their vectors, of length 1, with the manifest of a feature file
OUT/parts/000003/stamps.npy    int64 [rows, 2]: size and time of change of each file when it was read
OUT/marks-12.npy               uint8 [rows]: which rows of the whole index are gone
OUT/engines/                   what engines keep
```

A row's number never changes and is never used again, so that pages and engines may go on with an older state of the
index while it is being changed. Files that an older state names stay as they are; what is mapped stays readable.
"""

import bisect
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import List, Optional, Sequence, Tuple

import numpy as np

from mlvl_fairseq.arrays import map_array, read_array
from mlvl_fairseq.data.feature_manifest import array_path, fingerprint_of_names, read_feature_manifest
from mlvl_fairseq.data.features import read_features
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.files import read_text
from mlvl_fairseq.search.manifest import IndexManifest, PartEntry, read_manifest

HERE, GONE, TAKEN_OUT = 0, 1, 2  # marks of rows: to be found; its file is gone or was changed; removed by hand
BLOCK = 65_536  # rows of vectors in memory at a time


def part_folder(folder, name: str) -> Path:
    return Path(folder) / "parts" / name


def names_path(part: Path) -> Path:
    return part / "images.txt"


def read_names(part: Path) -> List[str]:
    """Of the pictures of a part's folder."""
    return read_text(names_path(part)).split("\n")[:-1]


@dataclass
class Part:
    """Some rows of an index.

    Attributes:
        names: of its pictures. vectors: [rows, d], mapped. bad: bool [rows], rows that stand for nothing.
    """

    entry: PartEntry
    folder: Path
    vectors: np.ndarray
    bad: np.ndarray

    @cached_property
    def names(self) -> List[str]:
        names, stored = read_names(self.folder), read_feature_manifest(self.folder / "vectors")
        if fingerprint_of_names(names) != stored.row_names_fingerprint:
            message = "names other pictures than the vectors are of; restore it from a copy"
            raise DataError(message, names_path(self.folder))
        return names

    @cached_property
    def stamps(self) -> np.ndarray:
        """int64 [rows, 2]."""
        return read_array(self.folder / "stamps.npy", ["int64"], (self.entry.rows, 2))


@dataclass
class Index:
    """One generation of an index folder.

    Attributes:
        folder: where it lies. manifest: what it is made of. parts: its rows. live: bool [rows], which can be found.
        marks: uint8 [rows].
    """

    folder: Path
    manifest: IndexManifest
    parts: List[Part]
    marks: np.ndarray
    live: np.ndarray = field(init=False)
    starts: List[int] = field(init=False)

    def __post_init__(self) -> None:
        self.starts = np.cumsum([0, *(part.entry.rows for part in self.parts)]).tolist()
        bad = np.concatenate([part.bad for part in self.parts]) if self.parts else np.zeros(0, bool)
        self.live = (self.marks == HERE) & ~bad

    def __len__(self) -> int:
        """Rows, those that are gone among them."""
        return self.starts[-1]

    @cached_property
    def pictures(self) -> int:
        """How many can be found."""
        return int(self.live.sum())

    @property
    def dim(self) -> int:
        return self.manifest.embed_dim

    def part_of(self, row: int) -> Tuple[Part, int]:
        """The part of a row, and its row there.

        Raises:
            DataError: there is no such row, or its picture is gone.
        """
        if not 0 <= row < len(self) or not self.live[row]:
            raise DataError(f"has no picture {row}", self.folder)
        number = bisect.bisect_right(self.starts, row) - 1
        return self.parts[number], row - self.starts[number]

    def name(self, row: int) -> str:
        """Of a picture, as its source names it."""
        part, own = self.part_of(row)
        return part.names[own]

    def vectors(self, rows: Sequence[int]) -> np.ndarray:
        """float32 [rows, d]."""
        rows = np.asarray(rows, np.int64)
        found = np.empty((len(rows), self.dim), np.float32)
        numbers = np.searchsorted(self.starts, rows, side="right") - 1
        for number in np.unique(numbers):
            own = numbers == number
            found[own] = self.parts[number].vectors[rows[own] - self.starts[number]]
        return found

    def blocks(self, start: int = 0, stop: Optional[int] = None):
        """(first row, vectors [b, d] as they are stored) of consecutive rows from `start` on, before `stop`."""
        stop = len(self) if stop is None else stop
        for first, part in zip(self.starts, self.parts):
            for own in range(0, part.entry.rows, BLOCK):
                low, high = max(start - first, own), min(stop - first, own + BLOCK, part.entry.rows)
                if low < high:
                    yield first + low, part.vectors[low:high]


def open_index(folder, verify: bool = True) -> Index:
    """Open an index at its newest generation.

    Args:
        verify: read all vectors once and compare their checksums; otherwise their size and type only.

    Raises:
        DataError: it is no index, or damaged.
    """
    manifest = read_manifest(folder)
    parts = [_open_part(Path(folder), entry, manifest, verify) for entry in manifest.parts]
    return Index(Path(folder), manifest, parts, read_marks(folder, manifest))


def read_marks(folder, manifest: IndexManifest) -> np.ndarray:
    """uint8 [rows]."""
    marks = np.zeros(manifest.rows, np.uint8)
    if manifest.marks:
        there = read_array(Path(folder) / manifest.marks, ["uint8"], ("n",))
        if len(there) > len(marks):
            raise DataError(f"marks {len(there)} rows of {len(marks)}", Path(folder) / manifest.marks)
        marks[: len(there)] = there
    return marks


def _open_part(folder: Path, entry: PartEntry, manifest: IndexManifest, verify: bool) -> Part:
    own = part_folder(folder, entry.name)
    stem, shape = own / "vectors", (entry.rows, manifest.embed_dim)
    if verify:
        stored = read_features(stem, expect_rows=entry.rows, expect_fingerprint=manifest.weights_fingerprint)
        array, bad = stored.array, stored.unusable
        if array.shape != shape or array.dtype != manifest.dtype:
            raise DataError(f"is {array.dtype} {list(array.shape)}, not {manifest.dtype} {list(shape)}", stem)
    else:
        array, bad = map_array(array_path(stem), [manifest.dtype], shape), np.zeros(entry.rows, bool)
        bad[read_feature_manifest(stem).bad_rows] = True
    return Part(entry, own, array, bad)
