"""Protocols of learning languages: which models a run has and what each is evaluated on.

``run.json: protocol`` names one. A new protocol is one decorated function; the trainings of a run, of which these are
the scores, are in :mod:`mlvl_fairseq.continual.protocols`.
"""

from dataclasses import dataclass
from typing import Callable, Dict, Iterator, Sequence

DEFAULT_PROTOCOL = "sequence"


@dataclass(frozen=True)
class Cell:
    """A score of a run: its file is ``scores/<step>/<language>.<split>.json``.

    Attributes:
        step: name of the model's folder, e.g. ``01-de``.
        row: where it stands in the score matrix; the last row are the final scores.
        column: the language.
    """

    step: str
    row: int
    column: int


@dataclass(frozen=True)
class Protocol:
    """Attributes:
    name: as in ``run.json``.
    about: in words.
    cells: languages -> the scores of a finished run.
    in_order: languages are learned one after another, so that something can be forgotten.
    """

    name: str
    about: str
    cells: Callable[[Sequence[str]], Iterator[Cell]]
    in_order: bool

    def steps(self, languages: Sequence[str]) -> Dict[str, int]:
        """Name of each model's folder -> the number of languages learned in that step."""
        names = dict.fromkeys(cell.step for cell in self.cells(languages))
        return dict.fromkeys(names, len(languages) // len(names))


PROTOCOLS: Dict[str, Protocol] = {}


def register_protocol(name: str, about: str, in_order: bool = False):
    """Register a function from languages to the cells of a run."""

    def register(cells):
        PROTOCOLS[name] = Protocol(name, about, cells, in_order)
        return cells

    return register


@register_protocol("sequence", "one model learns one language after another", in_order=True)
def _sequence(languages: Sequence[str]) -> Iterator[Cell]:
    for row, learned in enumerate(languages):
        for column in range(row + 1):
            yield Cell(f"{row:02d}-{learned}", row, column)


@register_protocol("joint", "one model learns all languages at once")
def _joint(languages: Sequence[str]) -> Iterator[Cell]:
    for column in range(len(languages)):
        yield Cell("00-joint", len(languages) - 1, column)


@register_protocol("single", "each language has a model of its own, learned from the start")
def _single(languages: Sequence[str]) -> Iterator[Cell]:
    for column, learned in enumerate(languages):
        yield Cell(f"{column:02d}-{learned}", len(languages) - 1, column)
