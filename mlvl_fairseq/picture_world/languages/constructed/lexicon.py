"""Words of the constructed languages: invented from the sounds of a language, or taken from a relative."""

import random
import re
import unicodedata
from functools import lru_cache
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Optional

import yaml

from mlvl_fairseq.picture_world.languages.constructed.relatives import hand_written_words
from mlvl_fairseq.picture_world.scenes import COLOURS, KINDS, MAX_COUNT, PLACES, RELATIONS

TABLE = Path(__file__).with_name("constructed.yaml")
COUNTERS = 4
NUMBERS = tuple(str(count) for count in range(1, MAX_COUNT + 1))
LONG = (*KINDS, *COLOURS, *PLACES, "picture")
SHORT = (*NUMBERS, *RELATIONS, "exist", "see", "and", "it", "them", *(f"counter{i}" for i in range(COUNTERS)))
ASKING = ("what", "what_colour", "how_many", "where", "whether", "both", "only")  # short, too
NOTHING = "_"  # in a list of sounds: none
ATTEMPTS = 1000


@lru_cache(maxsize=1)
def constructed_rows() -> Dict[str, Dict[str, Any]]:
    """The table: code -> row."""
    return yaml.safe_load(TABLE.read_text(encoding="utf-8"))


class Sounds:
    """The syllables of a language as they are written.

    Args:
        onsets, vowels, codas: choices, separated by spaces; ``_`` is nothing, repeated ones are more frequent. A vowel
            with a hyphen is written around its onset (Thai เ-า).
        syllables: the smallest and largest number in a long word; short words have one less, at least one.
        joint: what stands between syllables.
    """

    def __init__(self, onsets: str, vowels: str, codas: str, syllables: List[int], joint: str = ""):
        self.onsets, self.vowels, self.codas = (
            [sound.replace(NOTHING, "") for sound in choices.split()] for choices in (onsets, vowels, codas)
        )
        self.syllables, self.joint = syllables, joint

    def word(self, rng: random.Random, short: bool) -> str:
        """Invent a word, in Unicode's NFC."""
        number = max(1, rng.randint(*self.syllables) - short)
        return unicodedata.normalize("NFC", self.joint.join(self._syllable(rng) for _ in range(number)))

    def _syllable(self, rng: random.Random) -> str:
        onset, vowel, coda = (rng.choice(sounds) for sounds in (self.onsets, self.vowels, self.codas))
        return (vowel.replace("-", onset) if "-" in vowel else onset + vowel) + coda


class Relative:
    """Where words come from.

    Args:
        code: a hand-written or constructed language.
        share: of the words that are taken from it. kept: share of these that do not change.
        changes: what happens to the others, in turn: ``pattern>replacement``, a regular expression each.
    """

    def __init__(self, code: str, share: float, kept: float, changes: Iterable[str] = ()):
        self.code, self.share, self.kept = code, share, kept
        self._changes = [change.split(">") for change in changes]

    def borrow(self, word: Optional[str], rng: random.Random) -> Optional[str]:
        """The word as it arrives, or None if it is not taken."""
        taken, kept = rng.random() < self.share, rng.random() < self.kept
        if word is None or not taken:
            return None
        return word if kept else self._change(word)

    def _change(self, word: str) -> str:
        for pattern, replacement in self._changes:
            word = re.sub(pattern, replacement, word)
        return unicodedata.normalize("NFC", word)


class Lexicon:
    """Words of every language that a constructed one may descend from; each language's are made once."""

    def __init__(self, rows: Mapping[str, Mapping[str, Any]]):
        self._rows = rows
        self._made: Dict[str, Dict[str, str]] = {}

    def words(self, code: str) -> Dict[str, str]:
        """Concept -> word: ``star``, ``red``, ``2``, ``above``, ``snow``, ``see``, ...; no word means two things."""
        if code not in self._made:
            self._made[code] = self._make(self._rows[code]) if code in self._rows else hand_written_words(code)
        return self._made[code]

    def _make(self, row: Mapping[str, Any]) -> Dict[str, str]:
        sounds = Sounds(**row["sounds"])
        relative = Relative(**row["relative"]) if "relative" in row else None
        theirs = self.words(relative.code) if relative else {}
        words: Dict[str, str] = {}
        for concept in (*LONG, *SHORT, *ASKING):
            # A stream for each word: a new concept or an unlucky draw leaves the other words as they are.
            rng = random.Random(f"{row['seed']}/{concept}")
            word = relative.borrow(theirs.get(concept), rng) if relative else None
            words[concept] = word if word and word not in words.values() else _new_word(sounds, concept, words, rng)
        return words


def _new_word(sounds: Sounds, concept: str, words: Mapping[str, str], rng: random.Random) -> str:
    for _ in range(ATTEMPTS):
        word = sounds.word(rng, short=concept in SHORT + ASKING)
        if word not in words.values():
            return word
    raise ValueError(f"too few sounds in constructed.yaml: no new word for '{concept}'")


LEXICON = Lexicon(constructed_rows())
