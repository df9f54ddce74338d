"""Registry of caption file formats: a format is one file in ``readers/`` with one decorated class."""

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Callable, Optional, Type

from mlvl_fairseq.data.captions.table import TableBuilder
from mlvl_fairseq.data.captions.text_file import raw_lines
from mlvl_fairseq.errors import DataError, UserError

_HEAD_CHARACTERS = 4096


@dataclass(frozen=True)
class CaptionSource:
    """A caption file and the files that go with it.

    Attributes:
        path: the caption file.
        image_list: one image name a line, for each line of ``path``.
        english: one English sentence a line, for each line of ``path``.
    """

    path: str
    image_list: Optional[str] = None
    english: Optional[str] = None

    def companions(self) -> dict[str, str]:
        """The accompanying files that were given: ``{field: path}``."""
        given = {"image_list": self.image_list, "english": self.english}
        return {field: path for field, path in given.items() if path is not None}


class CaptionReader(ABC):
    """Reads one format of caption files.

    Attributes:
        patterns: file names the format usually has.
        companions: fields of :class:`CaptionSource` the format can use beside ``path``.
        required: those of them it cannot do without.
        unit: what its line numbers count, ``"line"`` or ``"row"``.
    """

    patterns: tuple[str, ...] = ()
    companions: frozenset[str] = frozenset()
    required: frozenset[str] = frozenset()
    unit: str = "line"

    @abstractmethod
    def sniff(self, head: str) -> bool:
        """Could a file whose first line starts with ``head`` be of this format?"""

    @abstractmethod
    def read(self, source: CaptionSource, rows: TableBuilder) -> None:
        """Add every caption of ``source`` to ``rows``.

        Raises:
            DataError: the file as a whole cannot be read, or by the policy for problems.
        """

    def matches_name(self, path: str) -> bool:
        name = os.path.basename(path).lower()
        return any(fnmatch(name, pattern) for pattern in self.patterns)


READERS: dict[str, CaptionReader] = {}


def register_reader(name: str) -> Callable[[Type[CaptionReader]], Type[CaptionReader]]:
    """Class decorator: make a :class:`CaptionReader` available as ``format=name``."""

    def register(reader: Type[CaptionReader]) -> Type[CaptionReader]:
        if name in READERS:
            raise ValueError(f"caption format '{name}' is registered twice")
        READERS[name] = reader()
        return reader

    return register


def choose_reader(source: CaptionSource, format: str = "auto") -> CaptionReader:
    """The reader named ``format``, or the one that fits the file's content and, in doubt, its name.

    Raises:
        UserError: no such format, or accompanying files that do not go with it.
        DataError: the file is empty, cannot be opened, or fits no format or several.
    """
    if format == "auto":
        return _detect(source)
    if format not in READERS:
        raise UserError(f"unknown caption format '{format}'; choose one of auto, {', '.join(sorted(READERS))}")
    reader, given = READERS[format], source.companions().keys()
    for fault, fields in (("has no use for", given - reader.companions), ("needs", reader.required - given)):
        if fields:
            raise UserError(f"{source.path}: caption format '{format}' {fault}: {', '.join(sorted(fields))}")
    return reader


def _detect(source: CaptionSource) -> CaptionReader:
    head = next(raw_lines(source.path, limit=_HEAD_CHARACTERS), None)
    if head is None:
        raise DataError("is empty", source.path)
    given = source.companions().keys()
    able = {name: reader for name, reader in READERS.items() if reader.required <= given <= reader.companions}
    named = {name for name, reader in able.items() if reader.matches_name(source.path)}
    fitting = {name for name, reader in able.items() if reader.sniff(head)}
    for names in (fitting & named, fitting, named):
        if len(names) == 1:
            return able[names.pop()]
    raise DataError(
        f"cannot tell its caption format; name it: {', '.join(sorted(READERS))} (aligned text needs an image list)",
        source.path,
    )
