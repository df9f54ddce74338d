"""Makes an index small again: rows that are gone are left out, and small parts joined. Pictures keep their numbers.

Parts are written beside those that they take the place of; one manifest after another names them, and what no manifest
names any more is removed. So an end at any moment costs at most the work of :data:`SAVED_BYTES`, and who searches goes
on with the state before until the next one is there.
"""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import List, NamedTuple

import numpy as np
from tqdm import tqdm

from mlvl_fairseq.arrays import write_array
from mlvl_fairseq.data.feature_manifest import read_feature_manifest
from mlvl_fairseq.data.features import FeatureWriter
from mlvl_fairseq.files import write_text
from mlvl_fairseq.process.locks import alone_in
from mlvl_fairseq.search.folder import BLOCK, GONE, Part, names_path, next_part, open_index, open_part, part_folder
from mlvl_fairseq.search.manifest import FORMATS, IndexManifest, PartEntry, read_manifest, write_manifest

JOINED_ROWS = 131_072  # of a part, at most: 100 million pictures are then fewer files than a process may have open
SAVED_BYTES = 1 << 30  # of vectors, between two manifests


class Compacted(NamedTuple):
    """What became of an index: `rows` that were left out, its parts `before` and `after`, and `freed` bytes."""

    rows: int
    before: int
    after: int
    freed: int


def compact(folder) -> Compacted:
    """Leave out what is gone from an index, and join its small parts.

    Pictures that were taken out by name, and those that cannot be read, stay: an index remembers them so.

    Raises:
        DataError: it is no index, or damaged. UserError: another process is at work there, or there is no room.
    """
    read_manifest(folder)  # nothing is locked where there is no index
    with alone_in(folder):
        index = open_index(folder, verify=False)
        before, manifest, gone, unsaved = _bytes(folder), index.manifest, index.marks == GONE, 0
        _remove_unnamed(folder, manifest)
        todo = [group for group in _groups(index.parts, gone) if len(group) > 1 or gone[group[0].numbers].any()]
        parts = list(manifest.parts)
        try:
            rows = sum(part.entry.rows for group in todo for part in group)
            with tqdm(total=rows, unit="picture", desc="compact", disable=not rows) as progress:
                for group in todo:
                    joined = _joined(folder, manifest, group, gone)
                    start = parts.index(group[0].entry)
                    parts[start : start + len(group)] = joined
                    unsaved += sum(entry.rows for entry in joined) * index.dim * np.dtype(manifest.dtype).itemsize
                    if unsaved >= SAVED_BYTES or group is todo[-1]:
                        manifest = write_manifest(folder, replace(manifest, parts=list(parts), format=FORMATS[1]))
                        _remove_unnamed(folder, manifest)
                        unsaved = 0
                    progress.update(sum(part.entry.rows for part in group))
        finally:
            _remove_unnamed(folder, read_manifest(folder))
        left_out = len(index) - sum(entry.rows for entry in parts)
        return Compacted(left_out, len(index.parts), len(parts), before - _bytes(folder))


def _groups(parts: List[Part], gone: np.ndarray) -> List[List[Part]]:
    """Neighbours that are one part together; what was joined before is a group of its own, or the start of one."""
    groups: List[List[Part]] = []
    rows = 0
    for part in parts:
        kept = int(np.count_nonzero(~gone[part.numbers]))
        if not groups or rows + kept > JOINED_ROWS:
            groups.append([])
            rows = 0
        groups[-1].append(part)
        rows += kept
    return groups


def _joined(folder, manifest: IndexManifest, group: List[Part], gone: np.ndarray) -> List[PartEntry]:
    """The rows of a group that are not gone as a part, which no manifest names yet; or nothing, if all are gone."""
    kept = [np.flatnonzero(~gone[part.numbers]) for part in group]
    if not any(map(len, kept)):
        return []
    parts = [open_part(folder, part.entry, manifest, verify=True) for part in group]
    origins = np.concatenate([np.stack([part.numbers, part.sources], 1)[own] for part, own in zip(parts, kept)])
    names = [part.names[place] for part, own in zip(parts, kept) for place in own.tolist()]
    first = int(origins[0, 0])
    entry = PartEntry(f"{first:06d}-{manifest.generation + 1}", None, len(names), first)
    own = part_folder(folder, entry.name)
    own.mkdir()
    write_text(names_path(own), "".join(f"{name}\n" for name in names))
    write_array(own / "stamps.npy", np.concatenate([part.stamps[rows] for part, rows in zip(parts, kept)]))
    write_array(own / "rows.npy", origins)
    with FeatureWriter(
        own / "vectors",
        names,
        manifest.embed_dim,
        manifest.model,
        manifest.weights_fingerprint,
        manifest.dtype,
        transform=manifest.transform,
        pictures=manifest.pictures,
    ) as writer:
        for part, rows in zip(parts, kept):
            one_colour = read_feature_manifest(part.folder / "vectors").one_colour_rows
            for some in np.split(rows, range(BLOCK, len(rows), BLOCK)):
                bad, flat = np.flatnonzero(part.bad[some]), np.flatnonzero(np.isin(some, one_colour))
                writer.write(part.vectors[some], bad, flat)
    return [entry]


def _remove_unnamed(folder, manifest: IndexManifest) -> None:
    """Remove parts that a manifest does not name, but for the one that mlvl-search index has begun."""
    named = {next_part(manifest), *(entry.name for entry in manifest.parts)}
    for path in (Path(folder) / "parts").glob("*"):
        if path.name not in named:
            shutil.rmtree(path)


def _bytes(folder) -> int:
    """What the parts take."""
    return sum(path.stat().st_size for path in (Path(folder) / "parts").rglob("*") if path.is_file())
