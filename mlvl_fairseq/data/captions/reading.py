"""Reading caption files: the registry of formats, the function that reads any of them, and the checks that need a whole
file.

A format is one file in ``readers/`` with one decorated class.
"""

import importlib
import logging
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Callable, Iterable, Iterator, Mapping, Optional, Sequence, Type

from mlvl_fairseq.data.captions.lines import raw_lines
from mlvl_fairseq.data.captions.pictures import refuse_misplaced, with_file_names
from mlvl_fairseq.data.captions.selecting import (
    KEPT,
    count_duplicates,
    one_caption_an_image,
    without_missing_images,
)
from mlvl_fairseq.data.captions.table import POLICIES, CaptionTable, Problems, TableBuilder, shown
from mlvl_fairseq.data.image_names import ImageFolder
from mlvl_fairseq.data.language_files import LANG, told_what_is_there
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.registry import registering

logger = logging.getLogger(__name__)

_HEAD_CHARACTERS = 1 << 16
FORMAT_OPTION = "--captions-format"


@dataclass(frozen=True)
class CaptionSource:
    """A caption file, what goes with it, and what is asked of it.

    Attributes:
        path: the caption file.
        image_list: one image name a line, for each line of ``path``.
        english: one English sentence a line, for each line of ``path``.
        lang: language that is asked for; None where a file has one language only.
        split: split that is asked for (train, valid, test, ...), of files that hold several.
        file_splits: names of splits inside the file, instead of those that ``split`` stands for: ``train,restval``.
        columns: where image and caption are, see :func:`~mlvl_fairseq.data.captions.cells.parse_columns`.
    """

    path: str
    image_list: Optional[str] = None
    english: Optional[str] = None
    lang: Optional[str] = None
    split: Optional[str] = None
    file_splits: Optional[str] = None
    columns: Optional[str] = None

    def companions(self) -> dict[str, str]:
        """The accompanying files that were given: ``{field: path}``."""
        given = {"image_list": self.image_list, "english": self.english}
        return {field: path for field, path in given.items() if path is not None}


class CaptionReader(ABC):
    """Reads one format of caption files. Formats are told apart by content: one ``sniff`` may be true of a file.

    Attributes:
        companions: fields of :class:`CaptionSource` the format can use beside ``path``.
        required: those of them it cannot do without.
        unit: what its line numbers count, ``"line"`` or ``"row"``.
        any_text: the format is any text; it is taken where no other fits.
        has_splits: its files hold splits, of which ``source.split`` or ``source.file_splits`` chooses.
        has_columns: its files have columns or fields, which ``source.columns`` can name.
    """

    companions: frozenset[str] = frozenset()
    required: frozenset[str] = frozenset()
    unit: str = "line"
    any_text: bool = False
    has_splits: bool = False
    has_columns: bool = False

    @abstractmethod
    def sniff(self, head: str) -> bool:
        """Is a file that starts with ``head`` (its first 65,536 characters at most) of this format?"""

    def recognises(self, path: str) -> bool:
        """Is something that is no text, or several files, of this format? Formats of text are told by `sniff`."""
        return False

    @abstractmethod
    def read(self, source: CaptionSource, rows: TableBuilder) -> None:
        """Add every caption of ``source`` to ``rows``.

        Raises:
            DataError: the file as a whole cannot be read, or by the policy for problems.
        """

    def holds_languages(self, source: CaptionSource) -> bool:
        """Does the one file hold captions in several languages, of which ``source.lang`` chooses?"""
        return False


READERS: dict[str, CaptionReader] = {}


def register_reader(name: str) -> Callable[[Type[CaptionReader]], Type[CaptionReader]]:
    """Class decorator: make a :class:`CaptionReader` available as ``format=name``."""
    return registering(READERS, "a format of captions", name, instance=True)


def readers() -> dict[str, CaptionReader]:
    """Every format by name."""
    importlib.import_module("mlvl_fairseq.data.captions.readers")  # late: formats import this module
    return READERS


def _option(help: str, default=None, **shown):
    """A field that commands make a flag of; it changes what is read, which fingerprints say, and no score by itself."""
    return field(default=default, metadata={"help": help, "identity": None, "group": "reading captions", **shown})


@dataclass(kw_only=True)
class ReadingOptions:
    """How caption files are read, as options of commands."""

    captions_format: str = _option("format of the caption files", "auto", choices=lambda: ("auto", *sorted(readers())))
    captions_split: Optional[str] = _option(
        "of files that hold several splits (Karpathy's): which, by their names there, e.g. train,restval (default: "
        "the one that is asked for; train with restval)",
        metavar="NAMES",
    )
    captions_columns: Optional[str] = _option(
        "where a table or rows of JSON have what: image=2,caption=1 or image=img_path,caption=sentences (also english, "
        "language); columns are numbered from 1 (default: told by a header and by what the columns hold)",
        metavar="LIST",
    )
    captions_kept: str = _option(
        "of each image: all its captions, or one, the first or the last in the file (LilT's VizWiz: the last)",
        "all",
        choices=KEPT,
    )
    on_problem: str = _option("unusable captions: count and leave out, or stop at the first", "skip", choices=POLICIES)
    max_problems: Optional[int] = _option("stop after N unusable captions a file", metavar="N", least=0)

    @classmethod
    def help(cls, name: str) -> str:
        """What an option is for."""
        return cls.__dataclass_fields__[name].metadata["help"]

    def reading(self) -> dict[str, object]:
        """As arguments of :func:`read_captions`."""
        return {
            "format": self.captions_format,
            "file_splits": self.captions_split,
            "columns": self.captions_columns,
            "kept": self.captions_kept,
            "on_problem": self.on_problem,
            "max_problems": self.max_problems,
        }


def choose_reader(source: CaptionSource, format: str = "auto") -> CaptionReader:
    """The reader named ``format``, or the one that fits the file's content.

    Raises:
        UserError: no such format, or options that do not go with it.
        DataError: the file is empty, cannot be opened, or fits no format or several.
    """
    known = readers()
    if format != "auto" and format not in known:
        raise UserError(f"unknown caption format '{format}'; choose one of auto, {', '.join(sorted(known))}")
    name = _detect(source, known) if format == "auto" else format
    _refuse_what_is_of_no_use(source, name, known[name])
    return known[name]


def _detect(source: CaptionSource, known: dict[str, CaptionReader]) -> str:
    """The only format whose content the head of the file is; else the one that takes any text, if it has what it needs.
    The file's name does not matter."""
    for name, reader in known.items():
        if reader.recognises(source.path):
            return name
    head = _head(source.path)
    if not head.strip():
        raise DataError("is empty", source.path)
    fitting = sorted(name for name, reader in known.items() if not reader.any_text and reader.sniff(head))
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise DataError(f"could be {' or '.join(fitting)}: say which with {FORMAT_OPTION}", source.path)
    given = source.companions().keys()
    for name, reader in known.items():
        if reader.any_text and reader.required <= given:
            return name
    names = ", ".join(sorted(known))
    raise DataError(
        f"cannot tell its caption format from {shown(head)}; name it: {names} (aligned text needs an image list)",
        source.path,
    )


def _head(path) -> str:
    parts: list[str] = []
    size = 0
    for part in raw_lines(path, limit=_HEAD_CHARACTERS):
        parts.append(part)
        size += len(part)
        if size >= _HEAD_CHARACTERS:
            break
    return "".join(parts)[:_HEAD_CHARACTERS]


def _refuse_what_is_of_no_use(source: CaptionSource, name: str, reader: CaptionReader) -> None:
    given = set(source.companions())
    useless = given - reader.companions
    useless |= {"file_splits"} if source.file_splits and not reader.has_splits else set()
    useless |= {"columns"} if source.columns and not reader.has_columns else set()
    for fault, fields in (("has no use for", useless), ("needs", reader.required - given)):
        if fields:
            listed = ", ".join(sorted(fields))
            raise UserError(f"{source.path}: caption format '{name}' {fault}: {listed} (another: {FORMAT_OPTION})")


def read_captions(
    path,
    *,
    format: str = "auto",
    lang: Optional[str] = None,
    split: Optional[str] = None,
    file_splits: Optional[str] = None,
    columns: Optional[str] = None,
    kept: str = "all",
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
        format: a name in :func:`readers`, or ``"auto"`` to tell by content.
        lang: language to read, of files that hold several.
        split: split to read, of files that hold several (Karpathy's): train, valid, test.
        file_splits: the splits inside the file, by their names there, e.g. ``"train,restval"``.
        columns: ``"image=2,caption=1"``: where they are, if a table or rows of JSON leave that open.
        kept: which captions of each image stay: ``"all"``, the ``"first"`` or the ``"last"`` in the file.
        image_list: (aligned) file with one image name a line; (coco, coco_cn) which images, see `CocoReader`.
        english: (aligned) file with one English sentence a line.
        image_root: folder that relative image names start from; what lies below it is named from there. Known, it
            decides what a name like ``a.png#0`` is.
        allow_outside_root: whether image names may leave it.
        check_images: leave out, and count, captions whose image is not a file under ``image_root``.
        drop_duplicates: leave out repetitions of the same caption of the same image; they are counted either way.
        on_problem: ``"skip"`` counts and leaves out captions that cannot be used; ``"error"`` raises at the first.
        max_problems: with ``"skip"``, raise when more captions than this cannot be used.

    Returns:
        the captions in file order; ``table.problems`` says what was wrong, and so does the log.

    Raises:
        UserError: options that do not go together.
        DataError: the file is absent, empty, damaged or not of the format; no usable caption; columns that hold
            something else; by policy.
    """
    if check_images and image_root is None:
        raise UserError("check_images needs an image root")
    if check_images and not os.path.isdir(image_root):
        raise UserError(f"image root '{image_root}' is not a folder")
    folder = None if image_root is None else ImageFolder(image_root, allow_outside_root)
    source = CaptionSource(
        str(path), image_list and str(image_list), english and str(english), lang, split, file_splits, columns
    )
    reader = choose_reader(source, format)
    field_paths = {field.removesuffix("_list"): file for field, file in source.companions().items()}
    problems = Problems(on_problem, max_problems)
    rows = TableBuilder(source.path, problems, reader.unit, field_paths, image_root, allow_outside_root)
    reader.read(source, rows)
    table = rows.table()
    if rows.other_languages:
        others = ", ".join(f"{count:,} of {name}" for name, count in rows.other_languages.most_common(5))
        logger.info("%s: %s captions of %s; rows of other languages: %s", path, f"{len(table):,}", lang, others)
    if columns is None:
        refuse_misplaced(table, reader.has_columns)
    table = with_file_names(table, folder)
    if check_images:
        table = without_missing_images(table, folder)
    table = one_caption_an_image(count_duplicates(table, drop_duplicates), kept)
    if table.problems:
        logger.warning("%s: %s", table.path, table.problems.summary())
    return table


class LazyTables(Mapping[str, CaptionTable]):
    """The captions of several languages, each read whenever it is asked for, and not kept.

    Args:
        languages: in their order. read: reads one.
    """

    def __init__(self, languages: Iterable[str], read: Callable[[str], CaptionTable]):
        self._languages, self._read = list(languages), read

    def __getitem__(self, lang: str) -> CaptionTable:
        if lang not in self._languages:
            raise KeyError(lang)
        return self._read(lang)

    def __contains__(self, lang: object) -> bool:
        return lang in self._languages

    def __iter__(self) -> Iterator[str]:
        return iter(self._languages)

    def __len__(self) -> int:
        return len(self._languages)


def read_languages(pattern: str, languages: Sequence[str], **reading) -> dict[str, CaptionTable]:
    """The captions of several languages, all in memory; see :func:`tables_of_languages`."""
    return dict(tables_of_languages(pattern, languages, **reading))


def tables_of_languages(
    pattern: str,
    languages: Sequence[str],
    *,
    option: str = "--captions",
    image_list: Optional[str] = None,
    english: Optional[str] = None,
    **reading,
) -> LazyTables:
    """Captions of several languages, to be read when they are asked for.

    Args:
        pattern: caption files, with ``{lang}`` where the language stands in their names; or one file that holds all.
        option: of the command, for the message.
        image_list, english: the same for the files beside them.
        reading: see :func:`read_captions`.

    Raises:
        UserError: one file is given for several languages, and it does not hold them.
        DataError: see :func:`read_captions`; also when they are read.
    """
    if LANG not in pattern and len(languages) > 1:
        source = CaptionSource(pattern, image_list, english, columns=reading.get("columns"))
        if not choose_reader(source, reading.get("format", "auto")).holds_languages(source):
            raise UserError(
                f"{option} '{pattern}' needs {LANG} where the language stands in the file name: it holds one language"
            )

    def read(lang: str) -> CaptionTable:
        with told_what_is_there(lang, pattern, image_list, english):
            return read_captions(
                pattern.replace(LANG, lang),
                lang=lang,
                image_list=image_list and image_list.replace(LANG, lang),
                english=english and english.replace(LANG, lang),
                **reading,
            )

    return LazyTables(languages, read)
