"""Vectors in groups, of which those nearest to the query are searched (faiss); the best ones are compared exactly."""

import logging
import math
from pathlib import Path
from typing import List, Optional

import numpy as np
from tqdm import tqdm

from mlvl_fairseq.digests import require_seal, seal
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.files import atomic_path, open_file, require_room
from mlvl_fairseq.search.engines.base import Engine, register_engine
from mlvl_fairseq.search.engines.exact import margin_of, scan
from mlvl_fairseq.search.engines.faiss_half import load_faiss, only
from mlvl_fairseq.search.folder import BLOCK, Index, as_float32

logger = logging.getLogger(__name__)
PROBES = 128  # groups that are searched
CANDIDATES = 100  # at least, that are compared exactly
TRAINED_ON = 40  # vectors a group that the groups are made from
SAVED_ROWS = 4_000_000  # between two states on the disk
_AGAIN = "delete it and run mlvl-search index again"


@register_engine("faiss_ivf")
class FaissIvfEngine(Engine):
    """Searches the groups of vectors that are nearest to the query (faiss IVF,SQ8), and compares the best exactly.

    A vector takes its dimensions in bytes, and is known by its picture's number. Pictures that came after the file was
    written are compared one by one.
    """

    about = f"found in the {PROBES} nearest groups (faiss IVF,SQ8), the best compared exactly"
    least = 200_000
    requires = "faiss"

    def __init__(self, index: Index, uri: Optional[str] = None):
        faiss = load_faiss()
        super().__init__(index)
        path = _path(index)
        if not path.exists():
            raise DataError("is not there: run mlvl-search index again, or choose another --engine", path)
        self._faiss = _read(path, index)
        self._until = _until(self._faiss)
        self._parameters = faiss.SearchParametersIVF(nprobe=PROBES, sel=only(index.live))

    def candidates(self, queries: np.ndarray, k: int) -> List[np.ndarray]:
        _, found = self._faiss.search(queries, max(4 * k, CANDIDATES), params=self._parameters)
        newer = scan(self.index, queries, k, margin_of(self.index.dim), self._until)
        return [np.concatenate([rows[rows >= 0], new]) for rows, new in zip(found, newer)]

    @classmethod
    def prepare(cls, index: Index, uri: Optional[str] = None) -> bool:
        path, suited = _path(index), groups_for(len(index))
        groups = _read(path, index) if path.exists() else None
        if groups is None or not suited / 2 <= groups.nlist <= 2 * suited:  # they were made of four times fewer or more
            groups = made_groups(index)
        until, removed = _until(groups), _remove_all_but(groups, index)
        if groups.ntotal == len(index) and not removed:
            return False
        path.parent.mkdir(exist_ok=True)
        require_room(path.parent, len(index) * (index.dim + 8), "the groups")
        saved = groups.ntotal
        with tqdm(total=len(index), initial=groups.ntotal, unit="vector", desc="groups") as progress:
            for rows, block in index.blocks(until):
                groups.add_with_ids(as_float32(block), rows)
                progress.update(len(block))
                if groups.ntotal - saved >= SAVED_ROWS:
                    _write(path, groups)
                    saved = groups.ntotal
        _write(path, groups)
        return True


def made_groups(index: Index):
    """Groups of a sample of an index, without any vectors yet."""
    faiss = load_faiss()
    groups = faiss.index_factory(index.dim, f"IVF{groups_for(len(index))},SQ8", faiss.METRIC_INNER_PRODUCT)
    sample = _sample(index, TRAINED_ON * groups.nlist)
    logger.info("%d groups are made of %s vectors", groups.nlist, f"{len(sample):,}")
    groups.train(sample)
    return groups


def _until(groups) -> int:
    """All numbers of pictures that are in groups are below; all that came later are not."""
    faiss, lists = load_faiss(), groups.invlists
    sizes = [(number, lists.list_size(number)) for number in range(groups.nlist)]
    rows = (faiss.rev_swig_ptr(lists.get_ids(number), size).max() for number, size in sizes if size)
    return int(max(rows, default=-1)) + 1


def _remove_all_but(groups, index: Index) -> int:
    """Take vectors that the index does not store any more out of groups; how many were."""
    stored = np.zeros(index.bound, bool)
    for part in index.parts:
        stored[part.numbers] = True
    if groups.ntotal <= stored[: _until(groups)].sum():
        return 0
    return groups.remove_ids(load_faiss().IDSelectorNot(only(stored)))


def groups_for(rows: int) -> int:
    """How many groups so many vectors are put into: about twice the root, and a power of two; of few vectors as
    many as leave :data:`TRAINED_ON` to a group."""
    return 2 ** round(math.log2(max(1, min(2 * math.sqrt(rows), rows / TRAINED_ON))))


def _path(index: Index) -> Path:
    return index.folder / "engines" / "faiss_ivf.index"


def _sample(index: Index, count: int) -> np.ndarray:
    """float32 [at most count, d]: live rows, drawn with a fixed seed."""
    rows = np.flatnonzero(index.live)
    if len(rows) > count:
        rows = np.sort(np.random.default_rng(0).choice(rows, count, replace=False))
    return np.concatenate([index.vectors(rows[start : start + BLOCK]) for start in range(0, len(rows), BLOCK)])


def _read(path: Path, index: Index):
    """Groups from a file whose bytes are those that were written."""
    faiss = load_faiss()
    with open_file(path) as file:
        require_seal(file, path, _AGAIN)
    groups = faiss.read_index(str(path))
    if groups.d != index.dim or _until(groups) > index.bound:
        raise DataError(f"is of another index ({groups.ntotal:,} vectors of {groups.d} dimensions); {_AGAIN}", path)
    return groups


def _write(path: Path, groups) -> None:
    faiss = load_faiss()
    with atomic_path(path) as temporary:
        faiss.write_index(groups, str(temporary))
        with open(temporary, "r+b") as file:
            seal(file)
