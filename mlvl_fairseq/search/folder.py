"""An index folder, opened for reading.

```
OUT/index.json                 what there is (search/manifest.py); nothing else is believed
OUT/parts/016384/images.txt    names of pictures, one a line: the rows of a part
OUT/parts/016384/vectors.npy   their vectors, of length 1, with the manifest of a feature file
OUT/parts/016384/stamps.npy    int64 [rows, 2]: size and time of change of each file when it was read
OUT/parts/016384/rows.npy      int64 [rows, 2]: number and source of each, where the part was joined of others
OUT/marks-12.npy               uint8 [numbers]: which pictures are gone
OUT/engines/                   what engines keep
```

A row is known by its picture's number, which never changes and is never used again, so that pages and engines may go on
with an older state of the index while it is being changed. Files that an older state names stay as they are until the
index is compacted; what is mapped stays readable.
"""

import bisect
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Iterator, List, Optional, Sequence, Tuple

import numpy as np

from mlvl_fairseq.arrays import map_array, read_array
from mlvl_fairseq.data.feature_manifest import array_path, fingerprint_of_names, read_feature_manifest
from mlvl_fairseq.data.features import read_features
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.files import read_text
from mlvl_fairseq.search.manifest import IndexManifest, PartEntry, read_manifest

HERE, GONE, TAKEN_OUT = 0, 1, 2  # marks of rows: to be found; its file is gone or was changed; removed by hand
BLOCK = 65_536  # rows of vectors in memory at a time
MAX_NAMES = 512 << 20  # bytes of the names of a part


def as_float32(rows: np.ndarray, buffer: Optional[np.ndarray] = None) -> np.ndarray:
    """float32 [n, d] of vectors as they are stored; in a buffer of at least as many rows, if there is one.

    torch converts half precision ten times as fast as NumPy.
    """
    import torch

    if rows.dtype == np.float32:
        return np.ascontiguousarray(rows)
    found = np.empty(rows.shape, np.float32) if buffer is None else buffer[: len(rows)]
    torch.from_numpy(found).copy_(torch.from_numpy(np.array(rows)))  # a copy, as torch does not like what is read-only
    return found


def part_folder(folder, name: str) -> Path:
    return Path(folder) / "parts" / name


def next_part(manifest: IndexManifest) -> str:
    """The name of the part that is made next: by its first picture's number, so that no name is used again."""
    return f"{manifest.rows:06d}"


def names_path(part: Path) -> Path:
    return part / "images.txt"


def read_names(part: Path) -> List[str]:
    """Of the pictures of a part's folder."""
    return read_text(names_path(part), limit=MAX_NAMES).split("\n")[:-1]


@dataclass
class Part:
    """Some rows of an index.

    Attributes:
        names: of its pictures. vectors: [rows, d], mapped. bad: bool [rows], rows that stand for nothing.
        origins: int64 [rows, 2], number and source of each; None: see `PartEntry`.
    """

    entry: PartEntry
    folder: Path
    vectors: np.ndarray
    bad: np.ndarray
    origins: Optional[np.ndarray] = None

    @property
    def numbers(self) -> np.ndarray:
        """int64 [rows], ascending."""
        if self.origins is None:
            return np.arange(self.entry.first, self.entry.first + self.entry.rows)
        return self.origins[:, 0]

    @property
    def sources(self) -> np.ndarray:
        """int64 [rows]."""
        return np.full(self.entry.rows, self.entry.source) if self.origins is None else self.origins[:, 1]

    def places(self, numbers):
        """Where pictures of this part are stored in it, by their numbers (one, or an array)."""
        return numbers - self.entry.first if self.origins is None else np.searchsorted(self.origins[:, 0], numbers)

    def source_of(self, place: int) -> int:
        """Of the picture that is stored there."""
        return self.entry.source if self.origins is None else int(self.origins[place, 1])

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
        folder: where it lies. manifest: what it is made of. parts: its rows.
        marks: uint8 [numbers]. live: bool [numbers], which can be found.
    """

    folder: Path
    manifest: IndexManifest
    parts: List[Part]
    marks: np.ndarray
    live: np.ndarray = field(init=False)
    starts: List[int] = field(init=False)

    def __post_init__(self) -> None:
        self.starts = [part.entry.first for part in self.parts]
        self.live = np.zeros(self.bound, bool)
        for part in self.parts:
            self.live[part.numbers] = (self.marks[part.numbers] == HERE) & ~part.bad

    def __len__(self) -> int:
        """Rows that are stored, some that are gone among them."""
        return sum(part.entry.rows for part in self.parts)

    @property
    def bound(self) -> int:
        """All numbers are below."""
        return self.manifest.rows

    @cached_property
    def pictures(self) -> int:
        """How many can be found."""
        return int(self.live.sum())

    @property
    def gone(self) -> int:
        """Rows that are stored of pictures that are gone."""
        return sum(int((self.marks[part.numbers] == GONE).sum()) for part in self.parts)

    @property
    def dim(self) -> int:
        return self.manifest.embed_dim

    def part_of(self, row: int) -> Tuple[Part, int]:
        """The part of a row, and its place there.

        Raises:
            DataError: there is no such row, or its picture is gone.
        """
        if not 0 <= row < self.bound or not self.live[row]:
            raise DataError(f"has no picture {row}", self.folder)
        part = self.parts[bisect.bisect_right(self.starts, row) - 1]
        return part, int(part.places(row))

    def name(self, row: int) -> str:
        """Of a picture, as its source names it."""
        part, own = self.part_of(row)
        return part.names[own]

    def vectors(self, rows: Sequence[int]) -> np.ndarray:
        """float32 [rows, d] of rows that are stored."""
        rows = np.asarray(rows, np.int64)
        found = np.empty((len(rows), self.dim), np.float32)
        numbers = np.searchsorted(self.starts, rows, side="right") - 1
        for number in np.unique(numbers):
            own = numbers == number
            found[own] = self.parts[number].vectors[self.parts[number].places(rows[own])]
        return found

    def blocks(self, start: int = 0) -> Iterator[Tuple[np.ndarray, np.ndarray]]:
        """(rows [b], vectors [b, d] as they are stored) of all rows from number `start` on, in order."""
        for part in self.parts:
            numbers = part.numbers
            for own in range(int(np.searchsorted(numbers, start)), part.entry.rows, BLOCK):
                yield numbers[own : own + BLOCK], part.vectors[own : own + BLOCK]


def open_index(folder, verify: bool = True) -> Index:
    """Open an index at its newest generation.

    Args:
        verify: read all vectors once and compare their checksums; otherwise their size and type only.

    Raises:
        DataError: it is no index, or damaged.
    """
    while True:
        manifest = read_manifest(folder)
        try:
            parts = [open_part(folder, entry, manifest, verify) for entry in manifest.parts]
            return Index(Path(folder), manifest, parts, read_marks(folder, manifest))
        except DataError:
            if read_manifest(folder).generation == manifest.generation:
                raise  # otherwise files were taken away because there are newer ones


def read_marks(folder, manifest: IndexManifest) -> np.ndarray:
    """uint8 [numbers]."""
    marks = np.zeros(manifest.rows, np.uint8)
    if manifest.marks:
        there = read_array(Path(folder) / manifest.marks, ["uint8"], ("n",))
        if len(there) > len(marks):
            raise DataError(f"marks {len(there)} rows of {len(marks)}", Path(folder) / manifest.marks)
        marks[: len(there)] = there
    return marks


def open_part(folder, entry: PartEntry, manifest: IndexManifest, verify: bool) -> Part:
    """A part of a manifest; see `open_index`."""
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
    origins = None if entry.source is not None else read_array(own / "rows.npy", ["int64"], (entry.rows, 2))
    return Part(entry, own, array, bad, origins)
