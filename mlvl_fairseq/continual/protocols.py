"""Protocols: which trainings a run is made of.

A new one is a registered function here, and one in :mod:`mlvl_fairseq.evaluation.report.protocols`, which imports
nothing of this package.
"""

from dataclasses import dataclass
from typing import Callable, Dict, List, Optional


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


PROTOCOLS: Dict[str, Callable[[List[str]], List[Step]]] = {}


def register_protocol(plan: Callable[[List[str]], List[Step]]) -> Callable[[List[str]], List[Step]]:
    """Register a function from languages to steps under its name."""
    PROTOCOLS[plan.__name__] = plan
    return plan


@register_protocol
def sequence(languages: List[str]) -> List[Step]:
    """One language after another, each from the model of those before; scored on all languages so far."""
    return [
        Step(f"{i:02d}-{lang}", [lang], languages[:i], i - 1 if i else None, languages[: i + 1])
        for i, lang in enumerate(languages)
    ]


@register_protocol
def joint(languages: List[str]) -> List[Step]:
    """All languages at once: what learning them one after another is measured against."""
    return [Step("00-joint", languages, [], None, languages)]


@register_protocol
def single(languages: List[str]) -> List[Step]:
    """One model for each language, all from the beginning."""
    return [Step(f"{i:02d}-{lang}", [lang], [], None, [lang]) for i, lang in enumerate(languages)]
