"""Protocols: which trainings a run is made of, and what each of their models is scored on."""

from dataclasses import dataclass
from typing import Callable, Dict, Iterator, List, Optional, Sequence

DEFAULT_PROTOCOL = "sequence"


@dataclass(frozen=True)
class Step:
    """One training of a run.

    Attributes:
        name: its folder, e.g. ``01-de``.
        current: languages learned in it. learned: those learned before, in order.
        follows: index of the step whose checkpoint it starts from; None: it starts from the beginning.
        evaluated: languages that its model is scored on.
    """

    name: str
    current: List[str]
    learned: List[str]
    follows: Optional[int]
    evaluated: List[str]

    @property
    def title(self) -> str:
        return self.name.partition("-")[2]


@dataclass(frozen=True)
class Cell:
    """A score of a run.

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
    """How languages are learned.

    Attributes:
        name: as in ``run.json``. about: in words.
        steps: languages -> the trainings of a run.
        in_order: languages are learned one after another, so that something can be forgotten.
    """

    name: str
    about: str
    steps: Callable[[Sequence[str]], List[Step]]
    in_order: bool

    def cells(self, languages: Sequence[str]) -> Iterator[Cell]:
        """Every score of a finished run, step by step."""
        for place, step in enumerate(self.steps(languages)):
            row = place if self.in_order else len(languages) - 1
            yield from (Cell(step.name, row, languages.index(lang)) for lang in step.evaluated)


PROTOCOLS: Dict[str, Protocol] = {}


def register_protocol(name: str, about: str, in_order: bool = False):
    """Register a function from languages to :class:`Step`."""

    def register(steps: Callable[[Sequence[str]], List[Step]]):
        PROTOCOLS[name] = Protocol(name, about, steps, in_order)
        return steps

    return register


@register_protocol("sequence", "one model learns one language after another", in_order=True)
def sequence(languages: Sequence[str]) -> List[Step]:
    languages = list(languages)
    return [
        Step(f"{i:02d}-{lang}", [lang], languages[:i], i - 1 if i else None, languages[: i + 1])
        for i, lang in enumerate(languages)
    ]


@register_protocol("joint", "one model learns all languages at once")
def joint(languages: Sequence[str]) -> List[Step]:
    return [Step("00-joint", list(languages), [], None, list(languages))]


@register_protocol("single", "each language has a model of its own, learned from the start")
def single(languages: Sequence[str]) -> List[Step]:
    return [Step(f"{i:02d}-{lang}", [lang], [], None, [lang]) for i, lang in enumerate(languages)]
