"""Files of which each language has one of its own: ``{lang}`` stands in their names where the language does."""

import contextlib
import difflib
import glob
import os
import re
from typing import Iterator, List, Optional

from mlvl_fairseq.codes import language_code
from mlvl_fairseq.errors import DataError, MissingFileError

LANG = "{lang}"  # stands for the language in a file name
SHOWN = 40  # languages that a message names


@contextlib.contextmanager
def told_what_is_there(lang: str, *patterns: Optional[str]) -> Iterator[None]:
    """In this block a missing file is told with the languages that have one, or with files of similar names.

    Args:
        lang: the language whose files are read. patterns: their names, with ``{lang}`` or without; None: no file.

    Raises:
        DataError: instead of the plain one, which is of a missing file.
    """
    try:
        yield
    except MissingFileError as error:
        names = [pattern for pattern in patterns if pattern and pattern.replace(LANG, lang) == str(error.path)]
        hint = _what_is_there(names[0], str(error.path)) if names else ""
        if not hint:
            raise
        raise DataError(f"{str(error).removeprefix(f'{error.path}: ')}; {hint}", error.path) from None


def _what_is_there(pattern: str, path: str) -> str:
    languages = languages_of(pattern)
    if languages:
        more = f", ... and {len(languages) - SHOWN:,} more" if len(languages) > SHOWN else ""
        return f"'{pattern}' is there in: {', '.join(languages[:SHOWN])}{more}"
    folder = os.path.dirname(path) or os.curdir
    if not os.path.isdir(folder):
        return f"there is no folder '{folder}'"
    similar = difflib.get_close_matches(os.path.basename(path), os.listdir(folder), n=5)
    return f"similar names there: {', '.join(sorted(similar))}" if similar else ""


def languages_of(pattern: str) -> List[str]:
    """The languages that have a file of such a name, sorted; none, where ``{lang}`` is not in it."""
    first, *others = pattern.split(LANG)
    if not others:
        return []
    name = re.compile(f"{re.escape(first)}([^/]+)" + r"\1".join(map(re.escape, others)))
    paths = glob.glob("*".join(map(glob.escape, [first, *others])))
    return sorted({found[1] for found in map(name.fullmatch, paths) if found and _is_code(found[1])})


def _is_code(text: str) -> bool:
    try:
        return bool(language_code(text))
    except DataError:
        return False
