"""What an engine offers: candidates among the vectors of an index, which are then ranked exactly."""

from abc import ABC, abstractmethod
from importlib.util import find_spec
from typing import Callable, ClassVar, Dict, List, Optional, Type

import numpy as np

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.evaluation.metrics.nearest import Nearest, nearest
from mlvl_fairseq.registry import registering
from mlvl_fairseq.search.folder import Index


class Engine(ABC):
    """Finds candidates. The first line of a subclass says how; the page shows it.

    Args:
        index: what is searched.
        uri: of a server, for engines that are one; None: its default.

    Attributes:
        name: ``--engine NAME``; `register_engine` sets it.
        about: how it searches, for people; ends a sentence that begins with the number of pictures.
        least: pictures from which on it is chosen by itself; None: only by name.
        requires: the Python package it needs; None: none.
        extra: of this plugin, which installs that package.
        exact: whether the best pictures are always among its candidates.
        reads_all: whether it reads all vectors when it is opened: then their checksums are compared.
    """

    name: ClassVar[str]
    about: ClassVar[str]
    least: ClassVar[Optional[int]] = None
    requires: ClassVar[Optional[str]] = None
    extra: ClassVar[str] = "search"
    exact: ClassVar[bool] = False
    reads_all: ClassVar[bool] = False

    def __init__(self, index: Index, uri: Optional[str] = None):
        self.index = index

    @classmethod
    def prepare(cls, index: Index, uri: Optional[str] = None) -> bool:
        """Make, or bring up to date, what the engine keeps of an index; long work shows its progress and resumes.

        Returns:
            whether anything was to be done.
        """
        return False

    @classmethod
    def installed(cls) -> bool:
        """Whether its package is there."""
        return cls.requires is None or find_spec(cls.requires) is not None

    @abstractmethod
    def candidates(self, queries: np.ndarray, k: int) -> List[np.ndarray]:
        """Rows among which the best `k` of each query are, or most of them; several threads may ask at once.

        Args:
            queries: float32 [q, d], of length 1.

        Returns:
            int64 [at least k, where there are so many] of each query, in any order, each once; live ones only.
        """


ENGINES: Dict[str, Type[Engine]] = {}


def register_engine(name: str) -> Callable[[Type[Engine]], Type[Engine]]:
    """Class decorator: make an engine available as ``--engine NAME``."""
    return registering(ENGINES, "an engine", name, name=name)


def engine_names() -> List[str]:
    return sorted(ENGINES)


def choose_engine(name: Optional[str], pictures: int) -> Type[Engine]:
    """The engine of that name, or the one for so many pictures whose package is there.

    Raises:
        UserError: there is no such engine, or its package is not installed.
    """
    if name is None:
        by_itself = [one for one in ENGINES.values() if one.least is not None and one.least <= pictures]
        return max(filter(lambda one: one.installed(), by_itself), key=lambda one: one.least)
    if name not in ENGINES:
        raise UserError(f"no engine '{name}'; there are: {', '.join(engine_names())}")
    engine = ENGINES[name]
    if not engine.installed():
        raise UserError(f"--engine {name} needs {engine.requires}: pip install 'mlvl_fairseq[{engine.extra}]'")
    return engine


def rank_exactly(index: Index, queries: np.ndarray, candidates: List[np.ndarray], k: int) -> List[Nearest]:
    """The best `k` candidates of each query by their stored vectors; of equal scores the smaller row is first.

    Args:
        queries: float32 [q, d]. candidates: as an engine gives them.

    Returns:
        rows [1, at most k] and scores of each query.
    """
    found = []
    for query, rows in zip(queries, candidates):
        rows = np.sort(rows)
        if not len(rows):
            found.append(Nearest(np.empty((1, 0), np.int64), np.empty((1, 0))))
            continue
        best = nearest(query[None], index.vectors(rows), k, normalise=False)
        found.append(Nearest(rows[best.indices], best.scores))
    return found


def agreement(engine: Engine, queries: int = 20, k: int = 10) -> float:
    """The share of the `k` best pictures that an engine finds, on average of some pictures of the index (drawn with a
    fixed seed) as queries; nan: there are none."""
    index, everything = engine.index, ENGINES["exact"](engine.index)
    rows = np.flatnonzero(index.live)
    if not len(rows):
        return float("nan")
    rows = np.sort(np.random.default_rng(0).choice(rows, min(queries, len(rows)), replace=False))
    vectors = index.vectors(rows)
    best, found = (rank_exactly(index, vectors, one.candidates(vectors, k), k) for one in (everything, engine))
    return float(np.mean([np.isin(a.indices, b.indices).mean() for a, b in zip(best, found)]))
