"""Lines of text files, plain, gzip or the one file of a zip archive, whatever bytes they hold."""

import gzip
import io
import zipfile
import zlib
from functools import partial
from typing import Iterator

from mlvl_fairseq.errors import DataError
from mlvl_fairseq.files import inflated, open_file, unzipped

_GZIP_MAGIC, _ZIP_MAGIC = b"\x1f\x8b", b"PK\x03\x04"
_UTF16_MARKS = ("\udcff\udcfe", "\udcfe\udcff")  # bytes FF FE and FE FF, as surrogateescape shows them


def raw_lines(path, limit: int = -1) -> Iterator[str]:
    """Yield the lines of a text file with their line ends; gzip and zip are recognised by content, not by name.

    Only ``\\n`` ends a line. Bytes that are not UTF-8 arrive as lone surrogates (``surrogateescape``), so that one bad
    caption does not cost the file. A byte-order mark at the start is removed.

    Args:
        limit: longest piece in characters to yield at once; -1 yields whole lines.

    Raises:
        DataError: the file cannot be read, is no regular file, is UTF-16 or no text, or is a gzip or zip file that is
            truncated, damaged (with the line) or inflates beyond all bounds, or a zip archive of several files.
    """
    number, packed = 0, "gzip file"
    try:
        with open_file(path) as raw:
            magic, stream = raw.peek(4)[:4], raw
            if magic.startswith(_GZIP_MAGIC):
                stream = inflated(raw, path)
            elif magic == _ZIP_MAGIC:
                packed = "zip archive"
                stream = unzipped(raw, path)
            text = io.TextIOWrapper(stream, encoding="utf-8", errors="surrogateescape", newline="\n")
            for number, line in enumerate(iter(partial(text.readline, limit), ""), 1):
                yield line if number > 1 else _without_mark(line, path)
    except EOFError:
        raise DataError(f"truncated {packed}: it ends here; copy or download it again", path, number + 1) from None
    except (gzip.BadGzipFile, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"damaged {packed} ({error}); copy or download it again", path, number + 1) from None
    except OSError as error:
        raise DataError(error.strerror or str(error), path) from None


def text_lines(path) -> Iterator[str]:
    """Yield the lines of a text file without their ends (``\\n`` or ``\\r\\n``); see :func:`raw_lines`."""
    for line in raw_lines(path):
        yield line.rstrip("\r\n")


def _without_mark(line: str, path) -> str:
    if line.startswith(_UTF16_MARKS):
        raise DataError("is UTF-16 text; convert it first: iconv -f UTF-16 -t UTF-8", path)
    if 4 * line.count("\0") > len(line):
        raise DataError("holds NUL bytes: UTF-16 without its mark, or no text; convert it to UTF-8 first", path, 1)
    return line.removeprefix("\ufeff")
