"""What the Romance languages share: two genders, no cases, the colour after the noun and agreeing with it."""

from typing import Mapping, Tuple

from mlvl_fairseq.picture_world.languages.base import Language
from mlvl_fairseq.picture_world.scenes import Group


class RomanceLanguage(Language):
    """Base of Romance languages; a subclass gives its tables, and overrides what depends on the next word's sound."""

    nouns: Mapping[str, Tuple[str, ...]]  # kind -> gender (m, f), singular, plural
    colours: Mapping[str, Tuple[str, ...]]  # colour -> masculine, feminine, masculine plural, feminine plural
    numbers: Mapping[str, Tuple[str, ...]]  # gender -> the words for 1, 2, 3 and 4
    articles: Mapping[str, Tuple[str, str]]  # gender -> the definite article of one and of several
    how_many: Mapping[str, str]  # gender -> what asks for a number

    def noun_phrase(self, group: Group, form: str) -> str:
        gender, *nouns = self.nouns[group.kind]
        plural = group.count > 1
        noun = nouns[plural]
        colour = self.colours[group.colour][2 * plural + (gender == "f")]
        return f"{self.number_word(gender, group.count, noun)} {noun} {colour}".replace("' ", "'")

    def number_word(self, gender: str, count: int, noun: str) -> str:
        """The numeral or indefinite article in front of ``noun``; a final apostrophe joins the two."""
        return self.numbers[gender][count - 1]

    def gender(self, group: Group) -> str:
        return self.nouns[group.kind][0]

    def noun(self, group: Group, form: str) -> str:
        gender, *nouns = self.nouns[group.kind]
        if form == "how_many":
            return f"{self.how_many[gender]} {nouns[1]}"
        plural = group.count > 1
        return f"{self.article(gender, plural, nouns[plural])} {nouns[plural]}".replace("' ", "'")

    def article(self, gender: str, plural: bool, noun: str) -> str:
        """The definite article in front of ``noun``; a final apostrophe joins the two."""
        return self.articles[gender][plural]
