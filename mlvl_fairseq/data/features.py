"""Features of images or texts in memory-mapped files, each with a manifest that says what they are.

``STEM.npy`` holds one row a name, ``STEM.json`` the manifest. Both are made together and checked against each other;
pickled arrays are never opened.
"""

import contextlib
import hashlib
import json
import os
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, List, Optional, Sequence, Tuple

import numpy as np

from mlvl_fairseq.arrays import map_array
from mlvl_fairseq.data.feature_arrays import FEATURE_DTYPES
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.files import atomic_path, write_json

FORMAT_VERSION = 1
FLUSH_SECONDS = 2.0  # work that an interruption can cost


@dataclass
class FeatureManifest:
    """What a feature file holds.

    Attributes:
        model: name of the model that computed the features, for people.
        weights_fingerprint: of that model's weights (`mlvl_fairseq.checkpoints.source.fingerprint`).
        dtype: ``float16`` or ``float32``.
        shape: rows and dimensions.
        row_names_fingerprint: of the row names in their order (see `fingerprint_of_names`).
        rows_done: rows computed so far, from the first on.
        bad_rows: rows of zeros that stand for images which could not be loaded.
        complete: whether all rows are there.
        transform: of the pictures, ``name@size``, where it was not the one that the model itself names; None: it was.
        format_version: of this layout.
    """

    model: str
    weights_fingerprint: str
    dtype: str
    shape: Tuple[int, int]
    row_names_fingerprint: str
    rows_done: int = 0
    bad_rows: List[int] = field(default_factory=list)
    complete: bool = False
    transform: Optional[str] = None
    format_version: int = FORMAT_VERSION

    def settings(self) -> dict:
        """What must agree for an interrupted extraction to go on."""
        return {name: value for name, value in asdict(self).items() if name not in PROGRESS_FIELDS}


PROGRESS_FIELDS = ("rows_done", "bad_rows", "complete")


def array_path(stem) -> Path:
    """``STEM.npy``."""
    return Path(f"{stem}.npy")


def feature_manifest_path(stem) -> Path:
    """``STEM.json``."""
    return Path(f"{stem}.json")


def fingerprint_of_names(names: Sequence[str]) -> str:
    """SHA-256 (64 hexadecimal digits) of names in their order."""
    digest = hashlib.sha256()
    for name in names:
        digest.update(name.encode("utf-8", "surrogateescape") + b"\0")
    return digest.hexdigest()


def file_sha256(path) -> str:
    """SHA-256 (64 hexadecimal digits) of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_feature_manifest(stem) -> FeatureManifest:
    """Read ``STEM.json``.

    Raises:
        DataError: it is missing, damaged, or of another version.
    """
    path = feature_manifest_path(stem)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError("no such manifest; extract the features, or give another place", path) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"is not JSON ({error}); delete it to start over", path) from None
    if not isinstance(content, dict) or content.get("format_version") != FORMAT_VERSION:
        raise DataError(f"is no feature manifest of version {FORMAT_VERSION}; extract the features again", path)
    try:
        manifest = FeatureManifest(**content)
        manifest.shape = (int(manifest.shape[0]), int(manifest.shape[1]))
        if not 0 <= manifest.rows_done <= manifest.shape[0]:
            raise ValueError(f"{manifest.rows_done} of {manifest.shape[0]} rows done")
    except (TypeError, ValueError, IndexError) as error:
        raise DataError(f"is damaged ({error}); delete it to start over", path) from None
    return manifest


class FeatureWriter:
    """Writes features row by row and continues where an interrupted run stopped.

    Rows reach the disk before the manifest counts them, so what is counted is there. Features of the first of these
    rows, made with the same settings before there were more, are kept and continued, too. Use as a context manager.

    Args:
        stem: path without ``.npy``; its folder must exist.
        row_names: a name for each row.
        dim: dimensions of a feature.
        model: name of the model, for people.
        weights_fingerprint: of the model's weights.
        dtype: ``float16`` or ``float32``.
        flush_seconds: time between two updates of the manifest.
        rows: number of rows, where names stand for more or fewer than one each; None: one a name.
        transform: see :class:`FeatureManifest`.

    Raises:
        DataError: there are no rows, or the files there were made with other settings.
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
    ):
        if not len(row_names):
            raise DataError("no rows to write features of", array_path(stem))
        if dtype not in FEATURE_DTYPES:
            raise DataError(f"dtype {dtype} is none of {', '.join(FEATURE_DTYPES)}", array_path(stem))
        self.stem, self._flush_seconds, self._flushed = stem, flush_seconds, time.monotonic()
        shape = (len(row_names) if rows is None else rows, dim)
        names = fingerprint_of_names(row_names)
        self.manifest = FeatureManifest(model, weights_fingerprint, dtype, shape, names, transform=transform)
        if feature_manifest_path(stem).exists():
            self.manifest = _resumed(stem, self.manifest, row_names)
        elif array_path(stem).exists():
            raise DataError("was not written by this command; move it away or give another place", array_path(stem))
        else:
            write_json(feature_manifest_path(stem), asdict(self.manifest))
        self._file = self._open()

    @property
    def rows_done(self) -> int:
        """Rows written so far; the next one to write."""
        return self.manifest.rows_done

    def write(self, features: np.ndarray, bad: Sequence[int] = ()) -> None:
        """Append rows.

        Args:
            features: ``[k, dim]`` of any floating type.
            bad: indices within these rows whose features stand for nothing; they are written as zeros.

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
        manifest.bad_rows.extend(manifest.rows_done + index for index in bad)
        manifest.rows_done += len(rows)
        manifest.complete = manifest.rows_done == manifest.shape[0]
        if manifest.complete or time.monotonic() - self._flushed >= self._flush_seconds:
            self.flush()

    def flush(self) -> None:
        """Bring all rows to the disk and count them in the manifest."""
        self._file.flush()
        os.fsync(self._file.fileno())
        write_json(feature_manifest_path(self.stem), asdict(self.manifest))
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Flush and close."""
        if not self._file.closed:
            self.flush()
            self._file.close()

    def __enter__(self) -> "FeatureWriter":
        return self

    def __exit__(self, _type, error, _traceback) -> None:
        if isinstance(error, OSError):  # such as a full disk: the manifest stays at what is safely written
            with contextlib.suppress(OSError):
                self._file.close()
        else:
            self.close()

    def _open(self) -> BinaryIO:
        """The array file, positioned at the next row.

        Rows are written, not mapped: on a full disk a mapped page kills the process where a write is an error.
        """
        manifest, path = self.manifest, array_path(self.stem)
        if manifest.rows_done:
            _open_array(path, manifest)
            file = open(path, "r+b")
        else:
            file = open(path, "w+b")
            _write_rows(file, manifest, np.empty((0, manifest.shape[1]), manifest.dtype))
        file.seek(-(manifest.shape[0] - manifest.rows_done) * self._row_bytes, os.SEEK_END)
        return file

    @property
    def _row_bytes(self) -> int:
        return self.manifest.shape[1] * np.dtype(self.manifest.dtype).itemsize

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
        with atomic_path(array_path(stem)) as path, open(path, "w+b") as file:
            _write_rows(file, manifest, rows)
    write_json(feature_manifest_path(stem), asdict(manifest))


def _write_rows(file: BinaryIO, manifest: FeatureManifest, rows: np.ndarray) -> None:
    """An ``.npy`` file of the manifest's shape: its first rows, and room for the others."""
    header = {"descr": np.dtype(manifest.dtype).str, "fortran_order": False, "shape": manifest.shape}
    np.lib.format.write_array_header_1_0(file, header)
    size = file.tell() + manifest.shape[0] * manifest.shape[1] * np.dtype(manifest.dtype).itemsize
    file.write(rows.data)
    file.truncate(size)


def open_features(
    stem,
    expect_rows: Optional[int] = None,
    expect_fingerprint: Optional[str] = None,
    expect_row_names: Optional[Sequence[str]] = None,
) -> np.memmap:
    """Map finished features into memory, read-only, after checking that they are what is expected.

    Args:
        stem: path without ``.npy``.
        expect_rows: number of rows.
        expect_fingerprint: of the weights that computed them.
        expect_row_names: names of the rows in their order.

    Returns:
        ``[n, d]`` float16 or float32.

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
    return _open_array(path, manifest)


def _open_array(path: Path, manifest: FeatureManifest) -> np.memmap:
    array = map_array(path)
    if array.shape != manifest.shape or array.dtype != manifest.dtype or not array.flags.c_contiguous:
        message = f"is {array.dtype} {array.shape}, its manifest says {manifest.dtype} {manifest.shape}; extract again"
        raise DataError(message, path)
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
