"""Citation forms (of Slavic colours, stems) of the hand-written languages that constructed ones take words from."""

from typing import Callable, Dict, Mapping

from mlvl_fairseq.picture_world.languages import ar, cs, de, en, ru
from mlvl_fairseq.picture_world.languages.base import LANGUAGES
from mlvl_fairseq.picture_world.languages.es import Spanish
from mlvl_fairseq.picture_world.languages.it import Italian
from mlvl_fairseq.picture_world.languages.romance import RomanceLanguage
from mlvl_fairseq.picture_world.scenes import COLOURS, KINDS

Words = Dict[str, str]  # concept -> word


def hand_written_words(code: str) -> Words:
    """Nouns, colours, numbers, sides and places of a language, in lower case; what it has no word for is left out."""
    language = LANGUAGES[code]
    words = {**_WORDS[code](), **language.sides, **language.places}
    return {concept: word.lower() for concept, word in words.items()}


def _romance(language: RomanceLanguage) -> Words:
    numbers = {str(count): word for count, word in enumerate(language.numbers["m"], start=1)}
    return {**_column(language.nouns, 1), **_column(language.colours, 0), **numbers}


def _column(table: Mapping, index: int) -> Words:
    return {concept: row[index] for concept, row in table.items()}


def _numbers(numbers: Mapping[int, str]) -> Words:
    return {str(count): word for count, word in numbers.items()}


_WORDS: Dict[str, Callable[[], Words]] = {
    "ar": lambda: {**_column(ar.NOUNS, 1), **_column(ar.COLOURS, 0)},
    "cs": lambda: {**_column(cs.NOUNS, 1), **_column(cs.COLOURS, 0), **_numbers(cs.NUMBERS["nom"])},
    "de": lambda: {**_column(de.NOUNS, 1), **de.COLOURS, **_numbers(de.NUMBERS)},
    "en": lambda: {**{word: word for word in (*KINDS, *COLOURS)}, **_numbers(en.NUMBERS)},
    "es": lambda: _romance(Spanish()),
    "it": lambda: _romance(Italian()),
    "ru": lambda: {**_column(ru.NOUNS, 1), **_column(ru.COLOURS, 0), **_numbers(ru.NUMBERS["nom"])},
}
