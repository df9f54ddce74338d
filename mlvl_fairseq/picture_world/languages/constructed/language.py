"""The grammar of the constructed languages: word order, affixes, articles and counters, as the table says."""

import random
import re
from dataclasses import dataclass
from typing import Any, Callable, Dict, Mapping, Optional, Sequence

from mlvl_fairseq.picture_world.languages.base import Language
from mlvl_fairseq.picture_world.languages.constructed.lexicon import COUNTERS
from mlvl_fairseq.picture_world.scenes import KINDS, PLACES, RELATIONS, Group

REDUPLICATION = "~"
VOWELS = re.compile("[aeiouyäöüõıå]")


@dataclass(frozen=True)
class NounClass:
    """A gender or class of nouns.

    Attributes:
        one, many: affixes of the noun for one and for several. colour, colours: affixes of its colour.
        article: the word before one thing; "" for none, None for the number.

    Affixes are ``-suffix``, ``prefix-``, ``~`` (the word twice) or "". ``-lar/-ler`` follows the word's last vowel:
    the first after one of the language's back vowels, else the second.
    """

    one: str = ""
    many: str = ""
    colour: str = ""
    colours: str = ""
    article: Optional[str] = None


class ConstructedLanguage(Language):
    """A language of the table.

    Args:
        code: its code.
        row: its row; see the head of ``constructed.yaml``.
        words: concept -> word.
    """

    def __init__(self, code: str, row: Mapping[str, Any], words: Mapping[str, str]):
        grammar = row["grammar"]
        self.code, self.name = code, f"{code} (constructed, like {row['like']})"
        self.script: str = row["script"]
        self.stop = row.get("stop", ".")
        self._words = words
        self._back, self._elided = row.get("back_vowels", ""), row.get("elided", "")
        self._finals: Dict[str, str] = row.get("finals", {})
        self._order: Sequence[str] = grammar["order"].split()
        self._affixes = {"object": grammar.get("object", ""), "case": grammar.get("case", "")}
        self._space, self._comma = row.get("space", " "), row.get("comma", ", ")
        classes = [NounClass(**each) for each in grammar.get("classes", [{}])]
        rng = random.Random(f"{row['seed']}/grammar")
        self._classes = {kind: rng.choice(classes) for kind in KINDS}
        self._counters = {kind: f"counter{rng.randrange(COUNTERS)}" for kind in KINDS}
        self.agreeing = {"it": {"one": words["it"], "many": words["them"]}}
        self.sides = {relation: words[relation] for relation in RELATIONS}
        self.places = {place: words[place] for place in PLACES}
        self.question_marks = ("", row.get("question_mark", "?"))
        self._make_templates(grammar)

    def _make_templates(self, grammar: Mapping[str, str]) -> None:
        words, verb_last = self._words, grammar["verb"] == "last"

        def clause(verb: str, *rest: str) -> str:
            return self._join(*rest, words[verb]) if verb_last else self._join(words[verb], *rest)

        def adposition(relation: str, noun: str) -> str:
            parts = (words[relation], noun)
            return self._join(*(parts if grammar["adposition"] == "before" else parts[::-1]))

        def related(form: str) -> Sequence[str]:
            parts = (f"{{a{form}}}", "{relation}")
            return parts[::-1] if grammar["relation"] == "before" else parts

        self.single = {
            "phrase": "{a}",
            "picture": clause("picture", "{a}"),
            "exists": clause("exist", "{a}"),
            "place": self._join("{place}", clause("exist", "{a}")),
            "see": clause("see", "{a:object}"),
        }
        self.pair = {
            "phrase": self._join(*related("")),
            "picture": clause("picture", *related("")),
            "exists": clause("exist", "{a}") + self._comma + self._join(words["and"], "{adverb}", "{b}"),
            "place": self._join("{place}", clause("exist", *related(""))),
            "see": clause("see", *related(":object")),
            "sides": self._join("{side_a}", "{a}") + self._comma + self._join("{side_b}", "{b}"),
        }
        self._make_questions(clause)
        self.relations = {relation: adposition(relation, "{b:case}") for relation in RELATIONS}
        self.adverbs = {relation: adposition(relation, "{a:it}") for relation in RELATIONS}

    def _make_questions(self, clause: Callable[..., str]) -> None:
        """What asks stands where a verb stands: ``clause(word, what else there is)``."""
        words, adjective_first = self._words, self._order.index("colour") < self._order.index("noun")

        def picture(*which: str) -> str:
            parts = (*which, words["picture"])
            return self._join(*(parts if adjective_first else parts[::-1]))

        self.questions = {
            "colour": clause("what_colour", "{a:the}"),
            "count": clause("exist", "{a:how_many}"),
            "thing": clause("what", "{side}"),
            "side": clause("where", "{a:the}"),
            "exists": clause("whether", clause("exist", "{a}")),
        }
        self.pictures = {
            "left": picture(words["left"]),
            "right": picture(words["right"]),
            "both": picture(words["both"]),
            "one": picture(words["only"], words["1"]),
        }

    def noun(self, group: Group, form: str) -> str:
        """The noun with its affix for one or for several; asked for a number, with the counter."""
        noun_class = self._classes[group.kind]
        if form == "how_many":
            noun = self._attach(noun_class.many, self._words[group.kind])
            return self._ordered(group.kind, number=self._words["how_many"], noun=noun)
        return self._attach(noun_class.one if group.count == 1 else noun_class.many, self._words[group.kind])

    def noun_phrase(self, group: Group, form: str) -> str:
        """Number or article, colour, noun and counter in the order of the language; ``form``: "", object or case."""
        noun_class, one = self._classes[group.kind], group.count == 1
        noun = self._attach(noun_class.one if one else noun_class.many, self._words[group.kind])
        parts = {
            "number": self._words[str(group.count)],
            "noun": self._attach(self._affixes.get(form, ""), noun),
            "colour": self._attach(noun_class.colour if one else noun_class.colours, self._words[group.colour]),
        }
        if one and noun_class.article is not None:
            parts["number"] = noun_class.article
        return self._ordered(group.kind, **parts)

    def _ordered(self, kind: str, **parts: str) -> str:
        """Parts of a noun phrase, those that are not empty, and the counter of its noun."""
        parts["counter"] = self._words[self._counters[kind]]
        return self._join(*(parts[part] for part in self._order if parts.get(part)))

    def spelled(self, text: str) -> str:
        """Letters with a form for the end of a word get it."""
        for letter, final in self._finals.items():
            text = re.sub(rf"{letter}(?!\w)", final, text)
        return text

    def _join(self, *parts: str) -> str:
        return self._space.join(parts)

    def _attach(self, affix: str, word: str) -> str:
        if affix == REDUPLICATION:
            return f"{word}-{word}"
        if "/" in affix:
            back, front = affix.split("/")
            vowels = VOWELS.findall(word)
            affix = back if vowels and vowels[-1] in self._back else front
        if affix.endswith("-"):
            return affix[:-1] + word
        if affix and affix[1] in self._elided and word[-1] in self._elided:
            word = word[:-1]
        return word + affix[1:]
