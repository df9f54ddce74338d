"""What is done to captions before they are cut into tokens. A new way is one function here."""

import re
from typing import Callable, Dict

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.registry import registering

NO_CLEANING = "none"
MAX_WORDS = 30  # of a caption that LilT reads

CLEANINGS: Dict[str, Callable[[str], str]] = {}
_LEFT_OUT = str.maketrans({**dict.fromkeys(",.'!?\"()*#:;~"), "-": " ", "/": " "})
_TO_SPACES = str.maketrans(dict.fromkeys(",.'!?\"()*#:;~-/", " "))
_GAP = re.compile(r"\s{2,}")


def register_cleaning(name: str) -> Callable[[Callable[[str], str]], Callable[[str], str]]:
    """Decorator of a function text -> text: ``--cleaning NAME``."""
    return registering(CLEANINGS, "a cleaning", name)


def cleaning(name: str, max_words: int = 0) -> Callable[[str], str]:
    """What cleans texts and cuts them to so many words; 0: to none. Raises UserError: there is none of this name."""
    if name not in CLEANINGS:
        raise UserError(f"--cleaning {name}: there are {', '.join(sorted(CLEANINGS))}")
    clean = CLEANINGS[name]
    return (lambda text: first_words(clean(text), max_words)) if max_words else clean


@register_cleaning(NO_CLEANING)
def none(text: str) -> str:
    """Captions as they are."""
    return text


@register_cleaning("cclm")
def cclm(text: str) -> str:
    """Captions as CCLM (Zeng et al. 2023) was published, which has it from ALBEF (Li et al. 2021): lower case, ASCII
    punctuation and hyphens to spaces, of which one is left between words."""
    text = _GAP.sub(" ", text.lower().translate(_TO_SPACES).replace("<person>", "person"))
    return text.rstrip("\n").strip(" ")


@register_cleaning("cclm_question")
def cclm_question(text: str) -> str:
    """Questions, likewise: as :func:`cclm`, but that spaces stay as many as they are, except at the end."""
    return text.lower().translate(_TO_SPACES).rstrip(" ")


@register_cleaning("lilt")
def lilt(text: str) -> str:
    """As LilT (Khan et al. 2023) was published, which has it from ALBEF (Li et al. 2021): lower case, ASCII punctuation
    left out (of other writings it stays), hyphens and slashes to spaces, and the first :data:`MAX_WORDS` words."""
    text = text.lower().translate(_LEFT_OUT).replace("<person>", "person")
    return first_words(_GAP.sub(" ", text).rstrip("\n").strip(" "), MAX_WORDS)


def first_words(text: str, number: int) -> str:
    """The beginning of a text: so many words, which one space separates."""
    return " ".join(text.split(" ")[:number])
