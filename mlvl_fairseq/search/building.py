"""Makes an index agree with a source of pictures: what is new is encoded, what is gone or was changed is marked.

Pictures are encoded in parts, each of which can be found as soon as it is done. An interruption costs seconds; where
pictures changed in between, it costs the part that was begun.
"""

import logging
import secrets
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Dict, List, Optional, Sequence

import numpy as np
import torch

from mlvl_fairseq.arrays import read_array, unit_rows, write_array
from mlvl_fairseq.data.feature_arrays import FEATURE_DTYPES
from mlvl_fairseq.data.feature_extraction import extract_image_features
from mlvl_fairseq.data.images.policy import BAD_IMAGE_ACTIONS, BadImagePolicy, PictureOptions
from mlvl_fairseq.data.images.transforms import reading_of
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.files import write_text
from mlvl_fairseq.inference.encoder import Encoder
from mlvl_fairseq.process.locks import alone_in
from mlvl_fairseq.search.engines import Engine, choose_engine
from mlvl_fairseq.search.folder import GONE, HERE, Index, names_path, next_part, open_index, part_folder, read_names
from mlvl_fairseq.search.manifest import (
    IndexManifest,
    PartEntry,
    SourceEntry,
    manifest_path,
    read_manifest,
    write_manifest,
)
from mlvl_fairseq.search.marks import mark, write_marks
from mlvl_fairseq.search.sources import Source

logger = logging.getLogger(__name__)
PART_ROWS = 16_384


@dataclass
class IndexOptions(PictureOptions):
    """How pictures are read and their vectors kept."""

    bad_image: str = field(
        default="skip",
        metadata={
            "help": "a picture that cannot be read: leave it out and count it, or stop",
            "choices": BAD_IMAGE_ACTIONS,
            "group": "pictures as they come",
        },
    )
    batch_size: int = field(default=64, metadata={"help": "pictures at a time", "least": 1})
    num_workers: int = field(default=0, metadata={"help": "processes that read pictures", "least": 0})
    dtype: str = field(
        default="float32",
        metadata={"help": "of stored vectors; float16 takes half the room", "choices": FEATURE_DTYPES},
    )


@dataclass
class Changes:
    """What became of an index: counts of pictures that were `added`, could not be read (`bad`), are `gone` from their
    source, or were `changed` and read again; `same` are as they were."""

    added: int = 0
    bad: int = 0
    gone: int = 0
    changed: int = 0
    same: int = 0

    def __str__(self) -> str:
        said = [f"{self.added:,} added", f"{self.same:,} as they were"]
        said += [f"{count:,} {what}" for what, count in (("read again", self.changed), ("gone", self.gone)) if count]
        return ", ".join(said + [f"{self.bad:,} cannot be read"] * bool(self.bad))


def update_index(
    folder, source: Source, encoder: Encoder, options: IndexOptions, frozen: Optional[Dict[str, str]] = None
) -> Changes:
    """Make an index, or bring it up to date with a source; pictures of other sources stay as they are.

    Args:
        folder: the index's. source: its pictures. encoder: makes the vectors; always the same one for an index.
        frozen: where the encoder's frozen files are, by option; kept for those who open the index.

    Raises:
        UserError: the index was made with another model or other options, or another process is at work there.
        DataError: the source has no pictures, or one cannot be read and may not be skipped.
    """
    encoder.require_image_tower()
    names = source.names()
    if not names:
        raise DataError("holds no pictures; nothing was changed", source.path)
    wanted = IndexManifest(
        str(Path(encoder.source).absolute()),
        encoder.fingerprint,
        encoder.embed_dim,
        options.dtype,
        encoder.other_transform,
        reading_of(options.high_bit_depth),
        {option: str(Path(path).absolute()) for option, path in (frozen or {}).items() if path},
    )
    _refuse_other_folder(folder)
    with alone_in(folder):
        index = _started(folder, wanted)
        return _Update(index, source, encoder, options).run(names)


def _refuse_other_folder(folder) -> None:
    """Nothing is written among other things."""
    folder = Path(folder)
    if folder.is_dir() and not manifest_path(folder).exists():
        strange = [path.name for path in folder.iterdir() if path.name != ".lock"]
        if strange:
            raise UserError(f"{folder}: is no index and not empty ({strange[0]}, ...): give a new folder")


def _started(folder, wanted: IndexManifest) -> Index:
    if not manifest_path(folder).exists():
        write_manifest(folder, replace(wanted, id=secrets.token_hex(8)))
    found = read_manifest(folder)
    for name in ("weights_fingerprint", "dtype", "transform", "pictures"):
        old, new = getattr(found, name), getattr(wanted, name)
        if old != new:
            raise UserError(
                f"{folder}: was made with {name} {old} ({found.model}), now it is {new}: give the same, or a new folder"
            )
    return open_index(folder, verify=False)


class _Update:
    """One source's pictures of an index, brought up to date."""

    def __init__(self, index: Index, source: Source, encoder: Encoder, options: IndexOptions):
        self.folder, self.index, self.manifest = index.folder, index, index.manifest
        self.source, self.encoder, self.options = source, encoder, options
        self.changes, self.gone = Changes(), []

    def run(self, names: List[str]) -> Changes:
        entry = SourceEntry(self.source.kind, str(self.source.path))
        known = self._known(self.manifest.sources.index(entry)) if entry in self.manifest.sources else {}
        todo = self._todo(names, self.source.stamps(names), known)
        if entry not in self.manifest.sources:
            self.manifest = replace(self.manifest, sources=[*self.manifest.sources, entry])
        number = self.manifest.sources.index(entry)
        for start in range(0, len(todo.names), PART_ROWS):
            rows = slice(start, start + PART_ROWS)
            if len(todo.names) > PART_ROWS:
                end = min(rows.stop, len(todo.names))
                logger.info("pictures %s to %s of %s", f"{start + 1:,}", f"{end:,}", f"{len(todo.names):,}")
            self._add_part(todo.names[rows], todo.stamps[rows], number)
        if self.gone:
            marks = mark(self.index.marks, self.manifest.rows, self.gone, GONE)
            self.manifest = write_marks(self.folder, self.manifest, marks)
        return self.changes

    def _known(self, source: int) -> Dict[str, tuple]:
        """Name -> (row, stamps) of this source's pictures. Of two rows of one picture, which an interruption can leave,
        the first is gone."""
        known: Dict[str, tuple] = {}
        for part in self.index.parts:
            own = (part.sources == source) & (self.index.marks[part.numbers] != GONE)
            for place, row in zip(np.flatnonzero(own).tolist(), part.numbers[own].tolist()):
                name = part.names[place]
                self.gone += [known[name][0]] if name in known else []
                known[name] = row, part.stamps[place].tolist()
        return known

    def _todo(self, names: List[str], stamps: np.ndarray, known: Dict[str, tuple]) -> "_Pictures":
        rows, changes = [], self.changes
        for place, (name, stamp) in enumerate(zip(names, stamps.tolist())):
            row, before = known.pop(name, (None, None))
            if row is None:
                rows.append(place)
                changes.added += 1
            elif self.index.marks[row] == HERE and before != stamp:
                rows.append(place)
                self.gone.append(row)
                changes.changed += 1
            else:
                changes.same += 1
        left = [row for row, _ in known.values() if self.index.marks[row] == HERE]
        self.gone += left
        changes.gone = len(left)
        return _Pictures([names[place] for place in rows], stamps[rows])

    def _add_part(self, names: List[str], stamps: np.ndarray, source: int) -> None:
        entry = PartEntry(next_part(self.manifest), source, len(names))
        own = part_folder(self.folder, entry.name)
        if own.exists() and not _is_begun(own, names, stamps):
            logger.info("%s: the pictures changed since it was begun; it is made anew", own)
            shutil.rmtree(own)
        own.mkdir(parents=True, exist_ok=True)
        write_text(names_path(own), "".join(f"{name}\n" for name in names))
        write_array(own / "stamps.npy", stamps)
        limit = max(self.options.max_bad_images - self.changes.bad, 0)
        stored = extract_image_features(
            self.source.dataset(names, self.encoder.transform_of(self.options.high_bit_depth)),
            lambda pixels: torch.from_numpy(unit_rows(self.encoder.encode_images(pixels))),
            own / "vectors",
            self.encoder.embed_dim,
            self.encoder.source,
            self.encoder.fingerprint,
            self.options.dtype,
            BadImagePolicy(self.options.bad_image, limit),
            self.options.batch_size,
            self.options.num_workers,
            self.encoder.other_transform,
            reading_of(self.options.high_bit_depth),
        )
        self.changes.bad += len(stored.bad_rows)
        self.manifest = write_manifest(self.folder, replace(self.manifest, parts=[*self.manifest.parts, entry]))


def prepare_engine(folder, name: Optional[str] = None, uri: Optional[str] = None) -> Engine:
    """Bring what an engine keeps up to date, and tell those who search the index, as by a new generation.

    Args:
        name, uri: see `choose_engine` and `Engine`.

    Raises:
        DataError: it is no index, or damaged. UserError: there is no such engine, or it cannot be reached.
    """
    with alone_in(folder):
        index = open_index(folder, verify=False)
        engine = choose_engine(name, index.pictures)
        if engine.prepare(index, uri):
            write_manifest(folder, index.manifest)
    return engine(index, uri)


@dataclass
class _Pictures:
    """Names, and int64 [names, 2] their stamps."""

    names: List[str]
    stamps: np.ndarray


def _is_begun(part: Path, names: Sequence[str], stamps: np.ndarray) -> bool:
    """Whether a part that was not finished is of the first of these pictures, as they are now."""
    try:
        before, then = read_names(part), read_array(part / "stamps.npy", ["int64"], ("n", 2))
    except DataError:
        return False
    rows = len(before)
    return before == list(names[:rows]) and np.array_equal(then, stamps[:rows])
