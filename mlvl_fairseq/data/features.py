"""Features of images or texts in memory-mapped files, each with a manifest that says what they are.

``STEM.npy`` holds one row a name, ``STEM.json`` the manifest. Both are made together and checked against each other;
one process at a time writes them; what is read is what was written, to the bit.
"""

import contextlib
import os
import time
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Callable, Iterator, Optional, Sequence

import numpy as np

from mlvl_fairseq.arrays import map_array
from mlvl_fairseq.data.feature_arrays import FEATURE_DTYPES, unusable_rows
from mlvl_fairseq.data.feature_manifest import (
    FeatureManifest,
    array_path,
    block_crcs,
    crc_of_bytes,
    crc_of_rows,
    feature_manifest_path,
    fingerprint_of_names,
    fingerprint_of_rows,
    read_feature_manifest,
    verify_header,
    verify_rows,
    write_feature_manifest,
)
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.files import atomic_path, require_room
from mlvl_fairseq.process.locks import locked

FLUSH_SECONDS = 2.0  # work that an interruption can cost


class FeatureWriter:
    """Writes features row by row and continues where an interrupted run stopped.

    Rows reach the disk before the manifest counts them, so what is counted is there. Features of the first of these
    rows, made with the same settings before there were more, are kept and continued, too. Use as a context manager:
    within it no other process writes these features.

    Args:
        stem: path without ``.npy``; its folder must exist.
        row_names: a name for each row.
        dim: dimensions of a feature.
        model: name of the model, for people.
        weights_fingerprint: of the model's weights.
        dtype: ``float16`` or ``float32``.
        flush_seconds: time between two updates of the manifest.
        rows: number of rows, where names stand for more or fewer than one each; None: one a name.
        transform, pictures, precision: see :class:`FeatureManifest`.

    Raises:
        DataError: there are no rows, or the files there are damaged or were made with other settings.
        UserError: another process is writing them, or there is no room for them.
    """

    def __init__(
        self,
        stem,
        row_names: Sequence[str],
        dim: int,
        model: str,
        weights_fingerprint: str,
        dtype: str = "float32",
        flush_seconds: float = FLUSH_SECONDS,
        rows: Optional[int] = None,
        transform: Optional[str] = None,
        pictures: Optional[str] = None,
        precision: Optional[str] = None,
    ):
        if not len(row_names):
            raise DataError("no rows to write features of", array_path(stem))
        if dtype not in FEATURE_DTYPES:
            raise DataError(f"dtype {dtype} is none of {', '.join(FEATURE_DTYPES)}", array_path(stem))
        self.stem, self._flush_seconds, self._flushed = Path(stem), flush_seconds, time.monotonic()
        shape = (len(row_names) if rows is None else rows, dim)
        names = fingerprint_of_names(row_names)
        self.manifest = FeatureManifest(
            model, weights_fingerprint, dtype, shape, names, transform=transform, pictures=pictures, precision=precision
        )
        with contextlib.ExitStack() as held:
            held.enter_context(locked(self.stem.parent, wait=False, name=self.stem.name))
            self._file = self._start(row_names)
            self._held = held.pop_all()

    def _start(self, row_names: Sequence[str]) -> BinaryIO:
        stem = self.stem
        if feature_manifest_path(stem).exists():
            self.manifest = _resumed(stem, self.manifest, row_names)
        elif array_path(stem).exists():
            raise DataError("was not written by this command; move it away or give another place", array_path(stem))
        manifest, done = self.manifest, self.manifest.rows_done
        require_room(stem.parent, (manifest.shape[0] - done) * manifest.row_bytes, f"the features in {stem.name}.npy")
        if not feature_manifest_path(stem).exists():
            write_feature_manifest(stem, manifest)
        return self._open()

    @property
    def rows_done(self) -> int:
        """Rows written so far; the next one to write."""
        return self.manifest.rows_done

    def write(self, features: np.ndarray, bad: Sequence[int] = (), one_colour: Sequence[int] = ()) -> None:
        """Append rows. Those that say nothing (`unusable_rows`) are among the manifest's ``bad_rows``.

        Args:
            features: ``[k, dim]`` of any floating type.
            bad: indices within these rows whose features stand for nothing; they are written as zeros.
            one_colour: indices within these rows of pictures that became one colour.

        Raises:
            DataError: the shape does not fit, or a feature is not finite in the file's dtype.
        """
        manifest = self.manifest
        with np.errstate(over="ignore"):  # reported below, with the row
            rows = np.array(features, dtype=manifest.dtype)
        if rows.ndim != 2 or rows.shape[1] != manifest.shape[1] or len(rows) > manifest.shape[0] - manifest.rows_done:
            message = f"features of shape {rows.shape} do not fit {manifest.shape} after row {manifest.rows_done}"
            raise DataError(message, array_path(self.stem))
        rows[list(bad)] = 0
        if not np.isfinite(rows).all():
            row = manifest.rows_done + int(np.argmin(np.isfinite(rows).all(axis=1)))
            message = f"features that are not finite in {manifest.dtype}; use float32 and check the weights"
            raise DataError(message, array_path(self.stem), row + 1)
        self._append(rows)
        self._count(rows)
        manifest.bad_rows.extend((manifest.rows_done + np.flatnonzero(unusable_rows(rows))).tolist())
        manifest.one_colour_rows.extend(manifest.rows_done + index for index in one_colour)
        manifest.rows_done += len(rows)
        manifest.complete = manifest.rows_done == manifest.shape[0]
        if manifest.complete or time.monotonic() - self._flushed >= self._flush_seconds:
            self.flush()

    def flush(self) -> None:
        """Bring all rows to the disk and count them in the manifest."""
        self._file.flush()
        os.fsync(self._file.fileno())
        write_feature_manifest(self.stem, self.manifest)
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Flush, close, and let others write."""
        with self._held:
            if not self._file.closed:
                self.flush()
                self._file.close()

    def __enter__(self) -> "FeatureWriter":
        return self

    def __exit__(self, _type, error, _traceback) -> None:
        if isinstance(error, OSError):  # such as a full disk: the manifest stays at what is safely written
            with self._held, contextlib.suppress(OSError):
                self._file.close()
        else:
            self.close()

    def _open(self) -> BinaryIO:
        """The array file, positioned at the next row.

        Rows are written, not mapped: on a full disk a mapped page kills the process where a write is an error.
        """
        manifest, path = self.manifest, array_path(self.stem)
        if manifest.rows_done:
            start = _require_rows(path, manifest)
            file = open(path, "r+b")
        else:
            file = open(path, "w+b")
            start = _write_rows(file, manifest, np.empty((0, manifest.shape[1]), manifest.dtype))
        file.seek(start + manifest.rows_done * manifest.row_bytes)
        return file

    def _count(self, rows: np.ndarray) -> None:
        """Take rows that have been written into the digests of their blocks."""
        manifest, start = self.manifest, 0
        while start < len(rows):
            within = (manifest.rows_done + start) % manifest.block_rows
            end = start + manifest.block_rows - within
            before = manifest.block_crcs.pop() if within else ""
            manifest.block_crcs.append(crc_of_rows(rows[start:end], before))
            start = end

    def _append(self, rows: np.ndarray) -> None:
        try:
            self._file.write(rows.tobytes())
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(array_path(self.stem))) from error


def _resumed(stem, wanted: FeatureManifest, row_names: Sequence[str]) -> FeatureManifest:
    found, rows_are_missing = read_feature_manifest(stem), False
    if _is_of_first_rows(found, row_names):
        shape = (wanted.shape[0], found.shape[1])
        found = replace(found, shape=shape, row_names_fingerprint=wanted.row_names_fingerprint, complete=False)
        rows_are_missing = True
    old, new = found.settings(), wanted.settings()
    for name in new:
        if old[name] != new[name]:
            raise DataError(
                f"features there were made with {name} {old[name]}, now it is {new[name]}; "
                f"to start over, delete {array_path(stem)} and {feature_manifest_path(stem)}",
                feature_manifest_path(stem),
            )
    if rows_are_missing:
        _make_room(stem, found)
    return found


def _is_of_first_rows(manifest: FeatureManifest, row_names: Sequence[str]) -> bool:
    """Do the features there belong to the first of these rows, with more behind them?"""
    rows = manifest.shape[0]
    return rows < len(row_names) and manifest.row_names_fingerprint == fingerprint_of_names(row_names[:rows])


def _make_room(stem, manifest: FeatureManifest) -> None:
    """Give the array as many rows as its new manifest says. Interrupted between the two files, it can be repeated."""
    if manifest.rows_done:
        rows = map_array(array_path(stem))[: manifest.rows_done]
        if rows.shape != (manifest.rows_done, manifest.shape[1]) or rows.dtype != manifest.dtype:
            message = f"lacks some of the {manifest.rows_done} rows that its manifest counts; delete both to start over"
            raise DataError(message, array_path(stem))
        verify_rows(array_path(stem), rows, manifest)
        with atomic_path(array_path(stem)) as path, open(path, "w+b") as file:
            _write_rows(file, manifest, rows)
    write_feature_manifest(stem, manifest)


def _write_rows(file: BinaryIO, manifest: FeatureManifest, rows: np.ndarray) -> int:
    """An ``.npy`` file of the manifest's shape: its first rows, and room for the others. Gives where rows begin."""
    header = {"descr": np.dtype(manifest.dtype).str, "fortran_order": False, "shape": manifest.shape}
    np.lib.format.write_array_header_1_0(file, header)
    start = file.tell()
    file.seek(0)
    had_digests, manifest.header_crc = manifest.has_digests, crc_of_bytes(file.read(start))
    if not had_digests:
        _take_up(manifest, rows)
    file.write(rows.data)
    file.truncate(start + manifest.shape[0] * manifest.row_bytes)
    return start


def _take_up(manifest: FeatureManifest, rows: np.ndarray) -> None:
    """Digests, and marks of unusable rows, of what an earlier version wrote without."""
    manifest.block_crcs = block_crcs(rows, manifest.block_rows)
    manifest.bad_rows = sorted({*manifest.bad_rows, *np.flatnonzero(unusable_rows(rows)).tolist()})


def _require_rows(path: Path, manifest: FeatureManifest) -> int:
    """Check the rows that are there; those of an earlier version get digests. Gives where rows begin."""
    array = _open_array(path, manifest)
    rows = array[: manifest.rows_done]
    if manifest.has_digests:
        verify_rows(path, rows, manifest)
        return array.offset
    with open(path, "rb") as file:
        manifest.header_crc = crc_of_bytes(file.read(array.offset))
    _take_up(manifest, rows)
    return array.offset


@dataclass(frozen=True)
class StoredFeatures:
    """Finished features.

    Attributes:
        array: ``[n, d]`` float16 or float32, mapped into memory.
        manifest: what they are.
    """

    array: np.memmap
    manifest: FeatureManifest

    @cached_property
    def unusable(self) -> np.ndarray:
        """bool [n]: rows that stand for nothing. Files of earlier versions list some of them only: they are read."""
        marks = np.zeros(len(self.array), bool) if self.manifest.has_digests else unusable_rows(self.array)
        marks[self.manifest.bad_rows] = True
        return marks

    def fingerprint(self, rows: int) -> str:
        """SHA-256 (64 hexadecimal digits) of the first rows; those behind them do not change it."""
        return fingerprint_of_rows(self.array[:rows], self.manifest)


def read_features(
    stem,
    expect_rows: Optional[int] = None,
    expect_fingerprint: Optional[str] = None,
    expect_row_names: Optional[Sequence[str]] = None,
) -> StoredFeatures:
    """Map finished features into memory, read-only, after checking that they are what is expected and what was written.

    Args:
        stem: path without ``.npy``.
        expect_rows: number of rows.
        expect_fingerprint: of the weights that computed them.
        expect_row_names: names of the rows in their order.

    Raises:
        DataError: a file is missing, damaged or unfinished, or is not what is expected.
    """
    manifest, path = read_feature_manifest(stem), array_path(stem)
    if not manifest.complete:
        message = f"only {manifest.rows_done} of {manifest.shape[0]} rows are done; run the extraction again to finish"
        raise DataError(message, path)
    if expect_rows is not None and manifest.shape[0] != expect_rows:
        raise DataError(f"holds {manifest.shape[0]} rows where {expect_rows} are needed; extract them again", path)
    if expect_fingerprint is not None and manifest.weights_fingerprint != expect_fingerprint:
        message = (
            f"computed with weights {manifest.weights_fingerprint[:12]} ({manifest.model}), needed are those of "
            f"{expect_fingerprint[:12]}; extract them again"
        )
        raise DataError(message, path)
    if expect_row_names is not None and manifest.row_names_fingerprint != fingerprint_of_names(expect_row_names):
        if _is_of_first_rows(manifest, expect_row_names):
            message = f"holds {manifest.shape[0]} of {len(expect_row_names)} rows, more have been added since; "
            raise DataError(message + "run the same extraction again for the others", path)
        raise DataError("its rows have other names or another order; extract them again", path)
    array = _open_array(path, manifest)
    verify_rows(path, array, manifest)
    return StoredFeatures(array, manifest)


@contextlib.contextmanager
def computing_once(stem, finished: Callable[[], bool]) -> Iterator[bool]:
    """Wait for whoever computes these features already; then say whether they are still to be computed, by this process
    alone until the block ends. The folder is made if need be."""
    stem = Path(stem)
    stem.parent.mkdir(exist_ok=True)
    with locked(stem.parent, name=f"{stem.name}.once"):
        yield not finished()


def is_finished(stem, row_names: Sequence[str]) -> bool:
    """Whether features of all these rows are there; what computed them is not asked. Raises DataError: damaged."""
    if not feature_manifest_path(stem).exists():
        return False
    manifest = read_feature_manifest(stem)
    return manifest.complete and manifest.row_names_fingerprint == fingerprint_of_names(row_names)


def open_features(stem, **expected) -> np.memmap:
    """The array of :func:`read_features`, ``[n, d]`` float16 or float32."""
    return read_features(stem, **expected).array


def _open_array(path: Path, manifest: FeatureManifest) -> np.memmap:
    array = map_array(path)
    if array.shape != manifest.shape or array.dtype != manifest.dtype or not array.flags.c_contiguous:
        message = f"is {array.dtype} {array.shape}, its manifest says {manifest.dtype} {manifest.shape}; extract again"
        raise DataError(message, path)
    if manifest.has_digests:
        with open(path, "rb") as file:
            verify_header(path, file.read(array.offset), manifest)
    return array


def source_of_first_rows(stem, features: np.ndarray) -> Optional[str]:
    """What stored features were taken from, if they are the first of these: a larger file may go on with them.

    Args:
        stem: where they are stored, see `FeatureWriter`.
        features: ``[n, d]``.

    Returns:
        the fingerprint in their manifest; None if there are none, or others.
    """
    if not feature_manifest_path(stem).exists():
        return None
    manifest = read_feature_manifest(stem)
    if not manifest.rows_done:
        return None
    rows = map_array(array_path(stem))[: manifest.rows_done]
    same = rows.dtype == features.dtype and np.array_equal(rows, features[: len(rows)])
    return manifest.weights_fingerprint if same else None
