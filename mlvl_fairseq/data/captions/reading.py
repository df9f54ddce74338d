"""Reading caption files: lines of text, the registry of formats, the function that reads any of them, and the checks
that need a whole file.

A format is one file in ``readers/`` with one decorated class.
"""

import gzip
import importlib
import io
import logging
import os
import zlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from typing import Callable, Iterator, Optional, Type

import numpy as np

from mlvl_fairseq.data.captions.table import (
    DUPLICATE,
    MISSING_IMAGE,
    CaptionTable,
    Problems,
    TableBuilder,
    unique_texts,
)
from mlvl_fairseq.data.image_names import ImageFolder
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.files import inflated, open_file

logger = logging.getLogger(__name__)

_GZIP_MAGIC = b"\x1f\x8b"
_UTF16_MARKS = ("\udcff\udcfe", "\udcfe\udcff")  # bytes FF FE and FE FF, as surrogateescape shows them
_HEAD_CHARACTERS = 4096


def raw_lines(path, limit: int = -1) -> Iterator[str]:
    """Yield the lines of a text file with their line ends; gzip is recognised by its content, not by its name.

    Only ``\\n`` ends a line. Bytes that are not UTF-8 arrive as lone surrogates (``surrogateescape``), so that one bad
    caption does not cost the file. A byte-order mark at the start is removed.

    Args:
        limit: longest piece in characters to yield at once; -1 yields whole lines.

    Raises:
        DataError: the file cannot be read, is no regular file, is UTF-16, or is a gzip file that is truncated, damaged
            (with the line) or inflates beyond all bounds.
    """
    number = 0
    try:
        with open_file(path) as raw:
            stream = inflated(raw, path) if raw.peek(2)[:2] == _GZIP_MAGIC else raw
            text = io.TextIOWrapper(stream, encoding="utf-8", errors="surrogateescape", newline="\n")
            for number, line in enumerate(iter(partial(text.readline, limit), ""), 1):
                yield line if number > 1 else _without_mark(line, path)
    except EOFError:
        raise DataError("truncated gzip file: it ends here; copy or download it again", path, number + 1) from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"damaged gzip file ({error}); copy or download it again", path, number + 1) from None
    except OSError as error:
        raise DataError(error.strerror or str(error), path) from None


def text_lines(path) -> Iterator[str]:
    """Yield the lines of a text file without their ends (``\\n`` or ``\\r\\n``); see :func:`raw_lines`."""
    for line in raw_lines(path):
        yield line.rstrip("\r\n")


def _without_mark(line: str, path) -> str:
    if line.startswith(_UTF16_MARKS):
        raise DataError("is UTF-16 text; convert it first: iconv -f UTF-16 -t UTF-8", path)
    return line.removeprefix("\ufeff")


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


def readers() -> dict[str, CaptionReader]:
    """Every format by name."""
    importlib.import_module("mlvl_fairseq.data.captions.readers")  # late: formats import this module
    return READERS


def choose_reader(source: CaptionSource, format: str = "auto") -> CaptionReader:
    """The reader named ``format``, or the one that fits the file's content and, in doubt, its name.

    Raises:
        UserError: no such format, or accompanying files that do not go with it.
        DataError: the file is empty, cannot be opened, or fits no format or several.
    """
    known = readers()
    if format == "auto":
        return _detect(source, known)
    if format not in known:
        raise UserError(f"unknown caption format '{format}'; choose one of auto, {', '.join(sorted(known))}")
    reader, given = known[format], source.companions().keys()
    for fault, fields in (("has no use for", given - reader.companions), ("needs", reader.required - given)):
        if fields:
            raise UserError(f"{source.path}: caption format '{format}' {fault}: {', '.join(sorted(fields))}")
    return reader


def _detect(source: CaptionSource, known: dict[str, CaptionReader]) -> CaptionReader:
    """The only format that the name and the head of the file fit; else the only one that its head or name fits."""
    head = next(raw_lines(source.path, limit=_HEAD_CHARACTERS), None)
    if head is None:
        raise DataError("is empty", source.path)
    given = source.companions().keys()
    able = {name: reader for name, reader in known.items() if reader.required <= given <= reader.companions}
    named = {name for name, reader in able.items() if reader.matches_name(source.path)}
    fitting = {name for name in named if able[name].sniff(head)}
    if len(fitting) == 1:
        return able[fitting.pop()]
    fitting = {name for name, reader in able.items() if reader.sniff(head)}
    for names in (fitting, named):
        if len(names) == 1:
            return able[names.pop()]
    raise DataError(
        f"cannot tell its caption format; name it: {', '.join(sorted(known))} (aligned text needs an image list)",
        source.path,
    )


def read_captions(
    path,
    *,
    format: str = "auto",
    image_list: Optional[str] = None,
    english: Optional[str] = None,
    image_root: Optional[str] = None,
    allow_outside_root: bool = False,
    check_images: bool = False,
    drop_duplicates: bool = False,
    on_problem: str = "skip",
    max_problems: Optional[int] = None,
) -> CaptionTable:
    """Read a caption file in any registered format, plain or gzip.

    Args:
        path: the caption file.
        format: a name in :func:`readers`, or ``"auto"`` to tell by content and name.
        image_list: (aligned) file with one image name a line; (coco) which images, see `CocoReader`.
        english: (aligned) file with one English sentence a line.
        image_root: folder that relative image names start from; what lies below it is named from there.
        allow_outside_root: whether image names may leave it.
        check_images: leave out, and count, captions whose image is not a file under ``image_root``.
        drop_duplicates: leave out repetitions of the same caption of the same image; they are counted either way.
        on_problem: ``"skip"`` counts and leaves out captions that cannot be used; ``"error"`` raises at the first.
        max_problems: with ``"skip"``, raise when more captions than this cannot be used.

    Returns:
        the captions in file order; ``table.problems`` says what was wrong, and so does the log.

    Raises:
        UserError: options that do not go together.
        DataError: the file is absent, empty, damaged or not of the format; no usable caption; by policy.
    """
    if check_images and image_root is None:
        raise UserError("check_images needs an image root")
    if check_images and not os.path.isdir(image_root):
        raise UserError(f"image root '{image_root}' is not a folder")
    source = CaptionSource(str(path), image_list and str(image_list), english and str(english))
    reader = choose_reader(source, format)
    field_paths = {field.removesuffix("_list"): file for field, file in source.companions().items()}
    problems = Problems(on_problem, max_problems)
    rows = TableBuilder(source.path, problems, reader.unit, field_paths, image_root, allow_outside_root)
    reader.read(source, rows)
    table = rows.table()
    if check_images:
        table = without_missing_images(table, ImageFolder(image_root, allow_outside_root))
    table = count_duplicates(table, drop_duplicates)
    if table.problems:
        logger.warning("%s: %s", table.path, table.problems.summary())
    return table


def without_missing_images(table: CaptionTable, folder: ImageFolder) -> CaptionTable:
    """Leave out the captions of images that are not files under an image root; each missing image is counted.

    Raises:
        DataError: by the table's policy for problems, or when no caption is left.
    """
    return without_images(table, folder.missing(table.images), MISSING_IMAGE, f"under '{folder.root}'")


def without_images(table: CaptionTable, missing: np.ndarray, kind: str, where: str) -> CaptionTable:
    """Leave out the captions of images that are not where they are needed; each missing image is counted.

    Args:
        missing: their rows. kind: of problem. where: they are not, in words.

    Raises:
        DataError: by the table's policy for problems, or when no caption is left.
    """
    if not len(missing):
        return table
    _, first = np.unique(table.image_rows, return_index=True)
    captions = np.bincount(table.image_rows, minlength=len(table.images))
    for row in missing:
        why = f"'{table.images[row]}' is not {where}; its {captions[row]} captions cannot be used"
        table.problems.skip(kind, why, table.path, int(table.lines[first[row]]), "image", captions=int(captions[row]))
    if len(missing) == len(table.images):
        raise DataError(f"none of its {len(missing):,} images is {where}; check the names and the root", table.path)
    return table.select(np.flatnonzero(~np.isin(table.image_rows, missing)))


def count_duplicates(table: CaptionTable, drop: bool) -> CaptionTable:
    """Count captions that their image already has (with the same English sentence, where there is one).

    Args:
        drop: leave the repetitions out. By default they stay: Yang et al. (2024) train on all rows.
    """
    first = _first_rows(table)
    repeated = np.flatnonzero(first != np.arange(len(table)))
    for row in repeated:
        image = table.images[table.image_rows[row]]
        why = f"'{image}' already has this caption ({table.unit} {table.lines[first[row]]})"
        table.problems.note(DUPLICATE, why, table.path, int(table.lines[row]), "caption", left_out=1 if drop else 0)
    if not drop or not len(repeated):
        return table
    return table.select(np.flatnonzero(first == np.arange(len(table))))


def _first_rows(table: CaptionTable) -> np.ndarray:
    """int64 ``[n]``: for each caption the first row that equals it in image, caption and English sentence."""
    keys = table.image_rows.astype(np.int64)
    for column in (table.captions, table.english):
        if column is not None:
            texts, numbers = unique_texts(column)
            keys = np.unique(keys, return_inverse=True)[1] * len(texts) + numbers
    _, first, groups = np.unique(keys, return_index=True, return_inverse=True)
    return first[groups]
