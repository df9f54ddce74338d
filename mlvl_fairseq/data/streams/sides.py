"""Captions that say left or right: their pictures must not be mirrored."""

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Iterable, Pattern

from mlvl_fairseq.data.streams.texts import all_texts

SIDES = ("left", "right")


@dataclass
class SideOptions:
    side_words: str = field(
        default="left,right",
        metadata={
            "help": "a picture is not mirrored if one of these words is in any of its captions, in whatever language; "
            "empty: all may be mirrored"
        },
    )


def tells_sides(captions: Iterable[Any], options: SideOptions) -> bool:
    """Whether one of the words is in a caption: a text, {language: text}, or lists of such."""
    pattern = _pattern(options.side_words)
    return any(pattern.search(text) for caption in captions for text in all_texts(caption))


def tells_sides_as_published(captions: Iterable[Any]) -> bool:
    """As the published code asks: of a text whether the words are in it, of {language: text} whether they are languages
    of it, which they never are."""
    return any(word in caption for caption in captions if isinstance(caption, (str, dict, list)) for word in SIDES)


@lru_cache(maxsize=8)
def _pattern(words: str) -> Pattern[str]:
    found = [re.escape(word.strip()) for word in words.split(",") if word.strip()]
    return re.compile(rf"\b(?:{'|'.join(found)})\b" if found else r"(?!)", re.IGNORECASE)
