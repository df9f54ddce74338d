"""What the languages share: templates with inflected slots, and tables of word forms."""

from abc import ABC, abstractmethod
from typing import Dict, Mapping, Optional, Tuple, Type

from mlvl_fairseq.picture_world.captions import CaptionPlan
from mlvl_fairseq.picture_world.scenes import INVERSE, Group

LANGUAGES: Dict[str, "Language"] = {}
ASKED = ("the", "the_of", "how_many")  # forms of Language.noun


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
    - ``{place}``: ``places``, in statements about two pictures ``pictures``.

    Questions have ``{side}``: ``sides``, and ``{a}`` as above or, with a form of ``ASKED``, as :meth:`noun` says it.
    """

    code: str
    name: str
    single: Mapping[str, str]  # template -> sentence about one group
    pair: Mapping[str, str]  # template -> sentence about two groups
    relations: Mapping[str, str]
    adverbs: Mapping[str, str]
    sides: Mapping[str, str]
    places: Mapping[str, str]
    pictures: Mapping[str, str]  # which of two -> where something is: "in the left picture"
    questions: Mapping[str, str]  # what is asked for -> question
    agreeing: Mapping[str, Mapping[str, str]] = {}  # form -> what the group is -> word
    stop = "."
    question_marks = ("", "?")  # before and after

    @abstractmethod
    def noun_phrase(self, group: Group, form: str) -> str:
        """Count, colour and noun, e.g. "two red stars"; ``form`` is "" where the template names none."""

    @abstractmethod
    def noun(self, group: Group, form: str) -> str:
        """A group without its colour, as questions need it: "the stars" or "the star" (``the``; ``the_of`` where it has
        to stand in another case), "how many stars" (``how_many``, which does not tell how many)."""

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
        return self.spelled(_capital(text) + self.stop)

    def aside(self, group: Group, relation: str) -> str:
        """A sentence that says where a group lies in the picture: "On the left, two red stars." """
        before, slot, rest = self.pair["sides"].partition("{a")
        text = f"{before}{slot}{rest.partition('}')[0]}}}".format(side_a=self.sides[relation], a=_Slot(self, group))
        return self.spelled(_capital(text) + self.stop)

    def statement(self, which: str, group: Group) -> str:
        """A sentence that says in which of two pictures a group is: "In both pictures there are two red stars."

        Args:
            which: left, right, both or one, which is exactly one.
        """
        text = self.single["place"].format(place=self.pictures[which], a=_Slot(self, group))
        return self.spelled(_capital(text) + self.stop)

    def question(self, asked: str, group: Group, relation: Optional[str] = None) -> str:
        """A question: "What colour are the stars?"

        Args:
            asked: a key of ``questions``. group: what it is about. relation: the side it is about, if it is.
        """
        text = self.questions[asked].format(a=_Slot(self, group), side=self.sides.get(relation, ""))
        before, after = self.question_marks
        return self.spelled(before + _capital(text) + after)

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
        if words is not None:
            return words[self.agreement(group)]
        return self.noun(group, form) if form in ASKED else self.noun_phrase(group, form)


def _capital(text: str) -> str:
    return text[0].title() + text[1:]  # Georgian has no capital letters but upper() knows some


class _Slot:
    """A group in a template: ``"{a:dat}"`` prints it inflected."""

    def __init__(self, language: Language, group: Group):
        self._language = language
        self._group = group

    def __format__(self, form: str) -> str:
        return self._language.inflect(self._group, form)
