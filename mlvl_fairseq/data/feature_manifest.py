"""What stored features are: a JSON file beside the array, and the digests by which the array is known again."""

import hashlib
import json
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Literal, Optional, Sequence, Tuple

import numpy as np

from mlvl_fairseq.errors import DataError
from mlvl_fairseq.files import write_json
from mlvl_fairseq.json_files import Count, Size, checked, read_json
from mlvl_fairseq.process.threads import cores

FORMAT_VERSION = 1
BLOCK_BYTES = 4 << 20  # rows that share a digest
NAMES_AT_ONCE = 100_000
THREADS = 8  # CRC-32 leaves Python to itself


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
        bad_rows: rows that stand for nothing: of images that could not be loaded (zeros), and features that say nothing
            (see `unusable_rows`). In files without digests those of images only.
        complete: whether all rows are there.
        format_version: of this layout.
        transform: of the pictures, ``name@size``, where it was not the one that the model itself names; None: it was.
        pictures: how pictures were read, where it was not as the network's own preprocessing does it.
        precision: of what computed them, where it was not float32 throughout; None: it was.
        one_colour_rows: rows whose pictures became one colour when they were read.
        header_crc: CRC-32 of the array file before its first row; '' in files of earlier versions.
        block_crcs: CRC-32 of every :data:`BLOCK_BYTES` of whole rows, the last one of what is there so far.
        digest: SHA-256 of the manifest without this field.
    """

    model: str
    weights_fingerprint: str
    dtype: Literal["float16", "float32"]
    shape: Tuple[Size, Size]
    row_names_fingerprint: str
    rows_done: Count = 0
    bad_rows: List[Count] = field(default_factory=list)
    complete: bool = False
    format_version: int = FORMAT_VERSION
    transform: Optional[str] = None
    pictures: Optional[str] = None
    one_colour_rows: List[Count] = field(default_factory=list)
    header_crc: str = ""
    block_crcs: List[str] = field(default_factory=list)
    digest: str = ""
    precision: Optional[str] = None

    def settings(self) -> dict:
        """What must agree for an interrupted extraction to go on."""
        return {name: value for name, value in asdict(self).items() if name not in PROGRESS_FIELDS}

    @property
    def has_digests(self) -> bool:
        """False in files of earlier versions."""
        return bool(self.header_crc)

    @property
    def row_bytes(self) -> int:
        return self.shape[1] * np.dtype(self.dtype).itemsize

    @property
    def block_rows(self) -> int:
        """Rows of a block."""
        return max(1, BLOCK_BYTES // self.row_bytes)


PROGRESS_FIELDS = ("rows_done", "bad_rows", "complete", "one_colour_rows", "header_crc", "block_crcs", "digest")


def array_path(stem) -> Path:
    """``STEM.npy``."""
    return Path(f"{stem}.npy")


def feature_manifest_path(stem) -> Path:
    """``STEM.json``."""
    return Path(f"{stem}.json")


def fingerprint_of_names(names: Sequence[str]) -> str:
    """SHA-256 (64 hexadecimal digits) of names in their order."""
    digest = hashlib.sha256()
    for start in range(0, len(names), NAMES_AT_ONCE):
        ended = "\0".join([*names[start : start + NAMES_AT_ONCE], ""])
        digest.update(ended.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def read_feature_manifest(stem) -> FeatureManifest:
    """Read ``STEM.json``.

    Raises:
        DataError: it is missing, damaged, or of another version.
    """
    path, advice = feature_manifest_path(stem), "delete it to start over"
    missing = "extract the features, or give another place"
    content = read_json(path, Dict[str, Any], advice, missing)
    if content.get("format_version") != FORMAT_VERSION:
        raise DataError(f"is no feature manifest of version {FORMAT_VERSION}; extract the features again", path)
    manifest = checked(content, FeatureManifest, path, advice=advice)
    last = max([manifest.rows_done - 1, *manifest.bad_rows, *manifest.one_colour_rows])
    blocks = -(-manifest.rows_done // manifest.block_rows) if manifest.has_digests else 0
    if last >= manifest.shape[0] or len(manifest.block_crcs) != blocks:
        raise DataError(f"is damaged: its numbers do not fit together; {advice}", path)
    if (manifest.digest or manifest.has_digests) and manifest.digest != _digest_of(manifest):
        raise DataError(f"is damaged: it is not what was written; {advice}", path)
    return manifest


def write_feature_manifest(stem, manifest: FeatureManifest) -> None:
    """Write ``STEM.json``, atomically, with its digest."""
    manifest.digest = _digest_of(manifest)
    write_json(feature_manifest_path(stem), _content_of(manifest))


def _digest_of(manifest: FeatureManifest) -> str:
    content = {name: value for name, value in _content_of(manifest).items() if name != "digest"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _content_of(manifest: FeatureManifest) -> dict:
    """What is written; earlier versions know no precision, and files without one are theirs to the letter."""
    return {name: value for name, value in asdict(manifest).items() if (name, value) != ("precision", None)}


def crc_of_bytes(content, before: str = "") -> str:
    """CRC-32 of bytes, or of those that follow others, as 8 hexadecimal digits."""
    return f"{zlib.crc32(content, int(before or '0', 16)):08x}"


def crc_of_rows(rows: np.ndarray, before: str = "") -> str:
    """CRC-32 of rows, or of those that follow others, as 8 hexadecimal digits."""
    return crc_of_bytes(np.ascontiguousarray(rows).reshape(-1).view(np.uint8), before)


def block_crcs(rows: np.ndarray, block_rows: int) -> List[str]:
    """The CRC-32 of every block of an array's rows; several threads read a large one (2 to 3 GB/s each)."""
    starts = range(0, len(rows), block_rows)
    with ThreadPoolExecutor(min(THREADS, cores())) as threads:
        return list(threads.map(lambda start: crc_of_rows(rows[start : start + block_rows]), starts))


def verify_rows(path: Path, rows: np.ndarray, manifest: FeatureManifest) -> None:
    """Compare the rows that a manifest counts with its digests; files of earlier versions have none.

    Raises:
        DataError: they are not those that were written.
    """
    if not manifest.has_digests:
        return
    size = manifest.block_rows
    found = block_crcs(rows, size)
    if found != manifest.block_crcs:
        first = next((n for n, (a, b) in enumerate(zip(found, manifest.block_crcs)) if a != b), 0)
        last = min((first + 1) * size, len(rows))
        raise _damaged(path, f"some of its rows {first * size + 1} to {last}")


def verify_header(path: Path, header: bytes, manifest: FeatureManifest) -> None:
    """As :func:`verify_rows`, of what is before the first row."""
    if crc_of_bytes(header) != manifest.header_crc:
        raise _damaged(path, "its first bytes")


def _damaged(path: Path, what: str) -> DataError:
    again = f"delete it and {Path(f'{str(path)[:-4]}.json')}, and run the command that made it again"
    return DataError(f"is damaged: {what} are not what was written; {again}", path)


def fingerprint_of_rows(rows: np.ndarray, manifest: FeatureManifest) -> str:
    """SHA-256 (64 hexadecimal digits) of verified rows: the first ones of stored features, which may be more.

    Rows that are added behind change nothing. Whole blocks are known by their digests, so that few bytes are read.
    """
    size = manifest.block_rows
    whole = len(rows) // size
    known = manifest.block_crcs[:whole] if manifest.has_digests else block_crcs(rows[: whole * size], size)
    rest = crc_of_rows(rows[whole * size :])
    return hashlib.sha256(" ".join([manifest.dtype, str(rows.shape), *known, rest]).encode()).hexdigest()
