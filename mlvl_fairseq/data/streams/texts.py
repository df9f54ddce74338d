"""Texts of records: which of several, in which language, and their ids."""

from dataclasses import dataclass, field
from typing import Any, Dict, List, NamedTuple, Optional

import numpy as np

from mlvl_fairseq.data.streams.records import Record
from mlvl_fairseq.data.text import Tokenizer
from mlvl_fairseq.data.text.cleaning import CLEANINGS, NO_CLEANING, cleaning, first_words
from mlvl_fairseq.errors import UserError

FORMS = ("fixed", "reference")


@dataclass
class CaptionOptions:
    """Options of tasks that read streams: what is done to their texts."""

    cleaning: str = field(
        default=NO_CLEANING,
        metadata={
            "help": "what is done to texts before they are cut into tokens: none, or cclm (lower case, no ASCII "
            "punctuation), as CCLM was published",
            "choices": lambda: sorted(CLEANINGS),
        },
    )
    max_words: int = field(default=0, metadata={"help": "cut texts to so many words; 0: do not", "least": 0})
    max_length: int = field(
        default=40, metadata={"help": "cut captions to this many tokens, <s> and </s> included", "least": 3}
    )
    languages: str = field(
        default="", metadata={"help": "languages of captions that are taken, e.g. en,de; empty: all that records have"}
    )
    tokenized: bool = field(
        default=False, metadata={"help": "texts are pieces already, separated by spaces; they are not cleaned"}
    )


class Caption(NamedTuple):
    language: str
    text: str


class Texts:
    """What the texts of records become.

    Args:
        options: :class:`CaptionOptions`; they can be a task's. tokenizer: texts to ids.
        form: ``reference``: a caption that lacks one of the chosen languages is none, as published; ``fixed``: it is
            taken in one of those that it has.

    Raises:
        UserError: options are none, or do not go together.
    """

    def __init__(self, options: CaptionOptions, tokenizer: Tokenizer, form: str = "fixed"):
        self.clean, self.tokenizer, self.form = cleaning(str(options.cleaning)), tokenizer, form
        self.max_words, self.tokenized = options.max_words, options.tokenized
        self.languages = [code.strip() for code in options.languages.split(",") if code.strip()]
        if self.tokenized and str(options.cleaning) != NO_CLEANING:
            raise UserError(f"--cleaning {options.cleaning} does nothing with --tokenized")

    def choose(self, value: Any, generator: np.random.Generator, record: Record, field: str) -> Caption:
        """One caption in one language, drawn from a text, ``{language: text}``, or a list of such.

        Raises:
            DataError: it is something else, or has nothing in the languages that are asked for.
        """
        if isinstance(value, list):
            if not value:
                raise record.error("is an empty list", field)
            value = value[int(generator.integers(len(value)))]
        if isinstance(value, str):
            return Caption("", value)
        choice = self._in_languages(value, record, field)
        return choice[int(generator.integers(len(choice)))]

    def any_of(self, value: Any, generator: np.random.Generator, record: Record, field: str) -> str:
        """A text in any language, whichever are chosen. Raises DataError: it is no text and no ``{language: text}``."""
        if isinstance(value, str):
            return value
        if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
            raise record.error("is no text and no {language: text}", field)
        return list(value.values())[int(generator.integers(len(value)))]

    def choose_two(self, value: Any, generator: np.random.Generator, record: Record, field: str) -> List[Caption]:
        """One caption in two languages, in the order in which they are drawn. Raises DataError: there is one only."""
        if isinstance(value, list) and value:
            value = value[int(generator.integers(len(value)))]
        choice = [] if isinstance(value, str) else self._in_languages(value, record, field)
        if len(choice) < 2:
            raise record.error("is in one language; --two-captions needs two of each", field)
        return [choice[int(i)] for i in generator.choice(len(choice), 2, replace=False)]

    def _in_languages(self, value: Any, record: Record, field: str) -> List[Caption]:
        if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
            raise record.error("is no text, no {language: text}, and no list of such", field)
        asked = [code for code in self.languages if code in value] if self.languages else list(value)
        if not asked or (self.form == "reference" and len(asked) < len(self.languages)):
            wanted = f" in {' and '.join(self.languages)}" if self.languages else ""
            raise record.error(f"has no text{wanted}; it has {', '.join(value) or 'none'}", field)
        return [Caption(code, value[code]) for code in asked]

    def ids(self, text: str, length: int, record: Record, field: str) -> List[int]:
        """``<s>``, pieces, ``</s>``, at most `length`.

        Raises:
            DataError: nothing is left of the text.
        """
        if self.tokenized:
            dictionary: Any = self.tokenizer.dictionary
            pieces = [dictionary.index(piece) for piece in text.split()]
        else:
            text = self.clean(text)
            if self.max_words:
                text = first_words(text, self.max_words)
            pieces = self.tokenizer.encode_batch([text])[0] if text.strip() else []
        if not pieces:
            raise record.error("nothing is left of the text", field)
        return [self.tokenizer.bos, *pieces[: length - 2], self.tokenizer.eos]


def all_texts(value: Any) -> List[str]:
    """Every text within a caption, in whatever language."""
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for one in inner for text in all_texts(one)]


def in_language(value: Any, language: str) -> Optional[str]:
    """What an attribute, a text or ``{language: text}``, is called in a language; None: it is not said."""
    if isinstance(value, str):
        return value
    found: Dict[str, str] = value if isinstance(value, dict) else {}
    return found.get(language)
