"""An index at work: queries in, rows and scores out. It follows the folder: a newer generation takes the place of the
one that is searched, while searches that have begun end on theirs."""

import logging
import threading
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional, Tuple, TypeVar

import numpy as np

from mlvl_fairseq.api import Model
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.search.engines import Engine, choose_engine, rank_exactly
from mlvl_fairseq.search.folder import Index, open_index
from mlvl_fairseq.search.manifest import IndexManifest, manifest_path, read_manifest
from mlvl_fairseq.search.query import Query
from mlvl_fairseq.search.reranking import Reranker
from mlvl_fairseq.search.sources import Source, open_source

logger = logging.getLogger(__name__)
DEEPEST = 1000  # results of a query
T = TypeVar("T")


class Found(NamedTuple):
    """Pictures, best first.

    Attributes:
        rows: of the index. names: of the pictures. scores: cosines.
        matched: what a fusion encoder says of the best ones, by which these are in order; None: it was not asked.
        index: the generation that was searched.
    """

    rows: List[int]
    names: List[str]
    scores: List[float]
    matched: Optional[List[Optional[float]]]
    index: Index


class _State(NamedTuple):
    index: Index
    engine: Engine
    sources: List[Source]
    stamp: Tuple[int, ...]


class Searcher:
    """Searches one index folder.

    Args:
        folder: the index. model: the one that made it.
        engine: name; None: what suits the number of pictures. uri: see `Engine`.
        rerank: how many of the best pictures a model with a fusion encoder puts in order; 0: none.

    Raises:
        DataError: it is no index, or damaged. UserError: another model made it, or there is no such engine.
    """

    def __init__(self, folder, model: Model, engine: Optional[str] = None, uri: Optional[str] = None, rerank: int = 24):
        self.folder, self.model, self._engine, self._uri = Path(folder), model, engine, uri
        self._refreshing, self._encoding = threading.Lock(), threading.Lock()
        self._reranker = Reranker(model, rerank) if rerank and model.encoder.network.match is not None else None
        require_model(read_manifest(folder), model, folder)
        self._state = self._opened()

    @property
    def index(self) -> Index:
        """The newest generation."""
        return self._newest().index

    @property
    def engine(self) -> Engine:
        """What searches the newest generation."""
        return self._newest().engine

    @property
    def reranks(self) -> int:
        """How many of the best pictures a fusion encoder puts in order; 0: there is none."""
        return self._reranker.pictures if self._reranker else 0

    def search(self, query: Query, k: int, start: int = 0) -> Found:
        """The `k` best pictures after the `start` best ones.

        Raises:
            UserError, DataError: see `Query.vector`; more than :data:`DEEPEST` results are asked for.
        """
        if k < 1 or start < 0 or start + k > DEEPEST:
            raise UserError(f"at most {DEEPEST} results of a query can be seen")
        return self._on_newest(lambda state: self._search_in(state, query, k, start))

    def _search_in(self, state: _State, query: Query, k: int, start: int) -> Found:
        with self._encoding:  # torch works best for one at a time
            vector = query.vector(self.model, state.index)
        first = self.reranks if query.words_only and start < self.reranks else 0
        deep = max(start + k + (query.like is not None), first)
        best = rank_exactly(state.index, vector, state.engine.candidates(vector, deep), deep)[0]
        kept = best.indices[0] != (-1 if query.like is None else query.like)
        rows, scores = best.indices[0][kept], best.scores[0][kept]
        order, matched = np.arange(len(rows)), None
        if first:
            with self._encoding:
                matched = self._reranker(query, rows[:first].tolist(), state.index, state.sources)
            order[:first] = np.lexsort((order[:first], -matched))
        shown = order[start : start + k]
        matches = None if matched is None else [float(matched[one]) if one < first else None for one in shown]
        names = [state.index.name(row) for row in rows[shown]]
        return Found(rows[shown].tolist(), names, scores[shown].tolist(), matches, state.index)

    def source_and_name(self, row: int) -> Tuple[Source, str]:
        """Where a picture is from, and its name there. Raises DataError: there is none."""
        return self._on_newest(lambda state: _source_and_name(state, row))

    def _on_newest(self, work: Callable[[_State], T]) -> T:
        """What work makes of the newest generation; again, if that was compacted and its files are gone meanwhile."""
        state = self._newest()
        while True:
            try:
                return work(state)
            except DataError:
                before, state = state, self._newest(wait=True)
                if state is before:
                    raise

    def _newest(self, wait: bool = False) -> _State:
        """The newest generation; without `wait` the one before, as long as another thread opens the newest one."""
        if _stamp(self.folder) != self._state.stamp and self._refreshing.acquire(blocking=wait):
            try:
                stamp = _stamp(self.folder)
                if stamp == self._state.stamp:
                    return self._state
                self._state = self._opened()
                logger.info("%s: generation %d", self.folder, self._state.index.manifest.generation)
            except (UserError, OSError) as error:
                logger.error("the index cannot be read any more, the state before goes on: %s", error)
                self._state = self._state._replace(stamp=stamp)
            finally:
                self._refreshing.release()
        return self._state

    def _opened(self) -> _State:
        stamp = _stamp(self.folder)
        index = open_index(self.folder, verify=False)
        require_model(index.manifest, self.model, self.folder)
        kind = choose_engine(self._engine, index.pictures)
        if kind.reads_all:
            index = open_index(self.folder, verify=True)
        sources = [open_source(source.kind, source.path) for source in index.manifest.sources]
        return _State(index, kind(index, self._uri), sources, stamp)


def _source_and_name(state: _State, row: int) -> Tuple[Source, str]:
    part, own = state.index.part_of(row)
    return state.sources[part.source_of(own)], part.names[own]


def _stamp(folder: Path) -> Tuple[int, ...]:
    """What changes when the manifest is replaced."""
    try:
        state = manifest_path(folder).stat()
    except OSError:
        return ()
    return state.st_ino, state.st_mtime_ns, state.st_size


def require_model(manifest: IndexManifest, model: Model, folder) -> None:
    """Raises UserError: vectors of an index are another model's."""
    if manifest.weights_fingerprint != model.fingerprint:
        raise UserError(
            f"{folder}: was made with {manifest.model} (weights {manifest.weights_fingerprint[:12]}), and "
            f"{model.encoder.source} has weights {model.fingerprint[:12]}: give --checkpoint the model of the index"
        )


def describe(searcher: Searcher) -> Dict[str, object]:
    """What is searched and how, for people and programs."""
    index, engine = searcher.index, searcher.engine
    return {
        "pictures": index.pictures,
        "engine": engine.name,
        "about": engine.about,
        "exact": engine.exact,
        "languages": searcher.model.languages,
        "generation": index.manifest.generation,
    }
