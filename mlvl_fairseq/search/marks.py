"""Which rows of an index are gone: pictures that are no more, and those that were taken out by name."""

import fnmatch
from dataclasses import replace
from pathlib import Path
from typing import Dict, List, Sequence

import numpy as np

from mlvl_fairseq.arrays import write_array
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.process.locks import alone_in
from mlvl_fairseq.search.folder import HERE, TAKEN_OUT, open_index
from mlvl_fairseq.search.manifest import IndexManifest, read_manifest, write_manifest


def mark(marks: np.ndarray, bound: int, chosen: Sequence[int], as_what: int) -> np.ndarray:
    """uint8 [bound]: marks, with the chosen rows' changed."""
    changed = np.zeros(bound, np.uint8)
    changed[: len(marks)] = marks
    changed[list(chosen)] = as_what
    return changed


def write_marks(folder, manifest: IndexManifest, marks: np.ndarray) -> IndexManifest:
    """Store which rows are gone; the marks before are removed when nothing names them any more."""
    name = f"marks-{manifest.generation + 1}.npy"
    write_array(Path(folder) / name, marks)
    before, manifest = manifest.marks, write_manifest(folder, replace(manifest, marks=name))
    if before:
        (Path(folder) / before).unlink(missing_ok=True)
    return manifest


def take_out(folder, patterns: Sequence[str], back: bool = False) -> int:
    """Remove pictures by name, whatever their source holds, or put them back.

    Args:
        patterns: of names, as ``private/*``. back: put back what was removed so.

    Returns:
        how many pictures.

    Raises:
        DataError: it is no index. UserError: a pattern fits no picture.
    """
    read_manifest(folder)  # nothing is locked where there is no index
    with alone_in(folder):
        index = open_index(folder, verify=False)
        wanted, now = (TAKEN_OUT, HERE) if back else (HERE, TAKEN_OUT)
        rows_of: Dict[str, List[int]] = {pattern: [] for pattern in patterns}
        for part in index.parts:
            for row, name in zip(part.numbers.tolist(), part.names):
                for pattern in patterns if index.marks[row] == wanted else ():
                    if fnmatch.fnmatchcase(name, pattern):
                        rows_of[pattern].append(row)
        for pattern, rows in rows_of.items():
            if not rows:
                which = "that was removed " if back else ""
                message = f"no picture {which}fits '{pattern}'; names are as mlvl-search query prints them"
                raise UserError(f"{folder}: {message}")
        rows = sorted({row for rows in rows_of.values() for row in rows})
        write_marks(folder, index.manifest, mark(index.marks, index.bound, rows, now))
        return len(rows)
