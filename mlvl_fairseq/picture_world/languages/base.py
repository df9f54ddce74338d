"""What the languages share: templates with inflected slots, and tables of word forms."""

from abc import ABC, abstractmethod
from typing import Dict, Mapping, Optional, Tuple, Type

from mlvl_fairseq.picture_world.captions import CaptionPlan
from mlvl_fairseq.picture_world.scenes import INVERSE, Group

LANGUAGES: Dict[str, "Language"] = {}


def register_language(language: Type["Language"]) -> Type["Language"]:
    """Class decorator: the language becomes known under its code."""
    add_language(language())
    return language


def add_language(language: "Language") -> None:
    """The language becomes known under its code."""
    LANGUAGES[language.code] = language


def table(text: str) -> Dict[str, Tuple[str, ...]]:
    """Read a table of word forms: a line ``key form form ...`` each."""
    rows = (line.split() for line in text.strip().splitlines())
    return {row[0]: tuple(row[1:]) for row in rows}


class Language(ABC):
    """How one language says a :class:`CaptionPlan`.

    Templates are format strings. ``{a}`` and ``{b}`` are groups; what follows a colon is the form that stands there:
    a key of ``agreeing`` gives the word that agrees with the group, everything else goes to :meth:`noun_phrase`
    (grammatical case). Sentences also have

    - ``{relation}``: ``relations`` filled with ``b``, where ``a`` lies ("above a blue house");
    - ``{adverb}``: ``adverbs`` filled with ``a``, where ``b`` lies ("below them");
    - ``{side_a}``, ``{side_b}``: ``sides``, where each of them lies in the picture ("on the left");
    - ``{place}``: ``places``.
    """

    code: str
    name: str
    single: Mapping[str, str]  # template -> sentence about one group
    pair: Mapping[str, str]  # template -> sentence about two groups
    relations: Mapping[str, str]
    adverbs: Mapping[str, str]
    sides: Mapping[str, str]
    places: Mapping[str, str]
    agreeing: Mapping[str, Mapping[str, str]] = {}  # form -> what the group is -> word
    stop = "."

    @abstractmethod
    def noun_phrase(self, group: Group, form: str) -> str:
        """Count, colour and noun, e.g. "two red stars"; ``form`` is "" where the template names none."""

    def agreement(self, group: Group) -> str:
        """What words of ``agreeing`` agree with; by default the number, "one" or "many"."""
        return "one" if group.count == 1 else "many"

    def caption(self, plan: CaptionPlan) -> str:
        """The plan as a sentence of this language, with capital letter and full stop."""
        a = _Slot(self, plan.a)
        place = self.places[plan.place]
        if plan.b is None:
            text = self.single[plan.template].format(a=a, place=place)
        else:
            b, inverse = _Slot(self, plan.b), INVERSE[plan.relation]
            text = self.pair[plan.template].format(
                a=a,
                b=b,
                place=place,
                relation=self.relations[plan.relation].format(b=b),
                adverb=self.adverbs[inverse].format(a=a),
                side_a=self.sides[plan.relation],
                side_b=self.sides[inverse],
            )
        text = text[0].title() + text[1:] + self.stop  # Georgian has no capital letters but upper() knows some
        return self.spelled(text)

    def named(self, group: Group) -> str:
        """What a region is called: the group by itself, without capital letter and full stop."""
        return self.spelled(self.single["phrase"].format(a=_Slot(self, group)))

    def side(self, relation: str) -> str:
        """Where a group lies in the picture, as it stands before :meth:`named` in the sentence ``sides``."""
        before, _, _ = self.pair["sides"].partition("{a")
        return self.spelled(before.format(side_a=self.sides[relation]).strip())

    def spelled(self, text: str) -> str:
        """What is put together, as it is written; by default the same."""
        return text

    def inflect(self, group: Group, form: str) -> str:
        """The group, or the word that agrees with it, in the form a template asks for."""
        words: Optional[Mapping[str, str]] = self.agreeing.get(form)
        return self.noun_phrase(group, form) if words is None else words[self.agreement(group)]


class _Slot:
    """A group in a template: ``"{a:dat}"`` prints it inflected."""

    def __init__(self, language: Language, group: Group):
        self._language = language
        self._group = group

    def __format__(self, form: str) -> str:
        return self._language.inflect(self._group, form)
