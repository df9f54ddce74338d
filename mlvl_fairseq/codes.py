"""Strings that become names of files and folders: codes of languages, names of splits and data sets. Whatever else they
hold could name a file anywhere."""

import re

from mlvl_fairseq.errors import DataError

LONGEST = 64
_LANGUAGE = re.compile(r"[A-Za-z][A-Za-z0-9]*([-_][A-Za-z0-9]+)*")
_SPLIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_DATA_SET = re.compile(r"[^\s.,/@|\x00-\x1f\x7f]([^,/@|\x00-\x1f\x7f]*[^\s,/@|\x00-\x1f\x7f])?")
# The names that a corpus folder has for something else: the English sentences of all captions, CLIP's own vocabulary.
_RESERVED = {"english", "clip"}


def language_code(text: str, path=None, field=None) -> str:
    """A language's code, as ``en``, ``quz``, ``zh-Hans`` or ``pt_BR``.

    Args:
        path, field: where it was found, for the message.

    Raises:
        DataError: it is none, or a name that a corpus uses for something else.
    """
    if not isinstance(text, str) or len(text) > LONGEST or not _LANGUAGE.fullmatch(text):
        message = f"{_shown(text)} is no code of a language: letters and digits, parts joined by - or _, as en or pt-BR"
        raise DataError(message, path, field=field)
    if text.lower() in _RESERVED:
        raise DataError(
            f"'{text}' cannot be the code of a language: a corpus has files of that name", path, field=field
        )
    return text


def split_name(text: str, path=None, field=None) -> str:
    """The name of a split, as ``test`` or ``test_2016_flickr``.

    Args:
        path, field: where it was found, for the message.

    Raises:
        DataError: it holds anything but letters, digits, - and _.
    """
    if not isinstance(text, str) or len(text) > LONGEST or not _SPLIT.fullmatch(text):
        raise DataError(f"{_shown(text)} is no name of a split: letters, digits, - and _ only", path, field=field)
    return text


def data_set_name(text: str) -> str:
    """The name of a data set within a corpus: that of the folder its images are in, as ``coco`` or ``CC3M (train)``.

    Raises:
        DataError: it is no name of a folder, begins with a dot, or holds a comma, @ or |, which part lists and keys.
    """
    if not isinstance(text, str) or len(text) > LONGEST or not _DATA_SET.fullmatch(text):
        raise DataError(f"{_shown(text)} is no name of a data set: one folder, without a leading dot, comma, @ and |")
    return text


def _shown(text) -> str:
    shown = repr(text)
    return shown if len(shown) <= LONGEST else f"{shown[:LONGEST]}..."
