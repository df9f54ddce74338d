"""Errors that a user can act on. Commands print them in one line and exit with status 2."""

from typing import Optional


class UserError(ValueError):
    """Something the user gave is wrong; the message says what, where, and what to do."""


class NoPlaceError(UserError):
    """A module has no place for what an option adds to it; others may have."""


class DataError(UserError):
    """Bad input data, located as precisely as it is known.

    Args:
        message: what is wrong and what to do about it.
        path: file that holds the fault.
        line: 1-based line (text files) or row (JSON lists) of the fault.
        field: name of the faulty field.
    """

    def __init__(self, message: str, path=None, line: Optional[int] = None, field: Optional[str] = None):
        where = "" if path is None else str(path)
        if line is not None:
            where += f":{line}"
        if field is not None:
            where += f" field '{field}'"
        super().__init__(f"{where}: {message}" if where else message)
        self.path, self.line, self.field = path, line, field


class MissingFileError(DataError):
    """A file is not there."""


def without_line_ends(message: str) -> str:
    """A message in one line, though what it quotes (an option, a name) may hold ends of lines."""
    return message.replace("\r", "\\r").replace("\n", "\\n")


def one_line(error: BaseException, longest: int = 300) -> str:
    """What another library says, in one line of bounded length; the error's type, where it says nothing."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= longest else f"{text[:longest]}..."
