"""Parallel text as files of sentences: checked whole before anything is made of it."""

import logging
import re
from pathlib import Path
from typing import Callable, Dict, Iterator, Sequence

from mlvl_fairseq.data.captions.lines import raw_lines
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.files import atomic_path

logger = logging.getLogger(__name__)

# C0 and C1 controls, DEL and Unicode's own line ends: what reads lines later would take some of them for ends of lines.
_CONTROL = re.compile("[\x01-\x1f\x7f-\x9f\u2028\u2029]")
LONGEST_LINE = 1 << 24  # characters that are read as one sentence
_SURROGATE = re.compile("[\ud800-\udfff]")  # a byte that was not UTF-8


def sentences(path) -> Iterator[str]:
    """Yield the lines of a text file; control characters within them are spaces. Only ``\\n`` ends a line.

    Raises:
        DataError: the file cannot be read, or a line (which is said) is not UTF-8 or holds a NUL byte.
    """
    for number, line in enumerate(raw_lines(path, LONGEST_LINE + 1), 1):
        line = line.rstrip("\r\n")
        require_text(line, path, number)
        yield _CONTROL.sub(" ", line)


def require_text(line: str, path, number: int) -> None:
    """Raises DataError: a line that was read with ``surrogateescape`` is not UTF-8, holds a NUL byte or is too long."""
    if _SURROGATE.search(line):
        shown = repr(line if len(line) <= 60 else line[:60] + "...")
        raise DataError(f"is not UTF-8; convert it first, e.g. with iconv, or mend this line: {shown}", path, number)
    if "\0" in line:
        raise DataError("holds a NUL byte; mend or delete it", path, number)
    if len(line) > LONGEST_LINE:
        raise DataError(f"has more than {LONGEST_LINE:,} characters, which no sentence has", path, number)


def encode_files(encode: Callable[[str], Sequence[str]], files: Sequence, folder, parallel: bool = False) -> None:
    """Write each file's sentences as tokens, a line a sentence, under its own name in a folder.

    All files are read and checked before the first is written, and each appears whole or not at all.

    Args:
        encode: sentence -> tokens.
        files: of sentences. folder: made if it is not there.
        parallel: files are given in pairs, the two sides of parallel text, and must have as many lines.

    Raises:
        DataError: a file is empty or cannot be read, see :func:`sentences`; or sides differ in length.
        UserError: two files have one name, or one has no other side.
    """
    targets: Dict[Path, Path] = {}
    for path in map(Path, files):
        if targets.setdefault(Path(folder) / path.name, path) != path:
            raise UserError(f"{targets[Path(folder) / path.name]} and {path} would both be {Path(folder) / path.name}")
    if parallel and len(files) % 2:
        raise UserError(f"{files[-1]} has no other side: give parallel text in pairs of files")
    lengths = [_length(path) for path in files]
    if parallel:
        for first, second, length, other in zip(files[::2], files[1::2], lengths[::2], lengths[1::2]):
            if length != other:
                raise DataError(f"has {length:,} lines, but {second} has {other:,}: line k belongs to line k", first)
    Path(folder).mkdir(parents=True, exist_ok=True)
    for target, path in targets.items():
        with atomic_path(target) as temporary, open(temporary, "w", encoding="utf-8") as out:
            for sentence in sentences(path):
                print(*encode(sentence), file=out)


def _length(path) -> int:
    """The number of lines of a file without fault; empty lines are told."""
    number = empty = 0
    for number, sentence in enumerate(sentences(path), 1):
        empty += not sentence.strip()
    if empty == number:
        raise DataError("holds no sentence", path)
    if empty:
        logger.warning("%s: %s of %s lines are empty", path, f"{empty:,}", f"{number:,}")
    return number
