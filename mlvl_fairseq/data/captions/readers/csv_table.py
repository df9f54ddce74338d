"""Tables with a header and commas, semicolons or bars between cells: the Flickr8k and Flickr30k of Kaggle
(``captions.txt``, ``results.csv``)."""

import csv
from typing import Iterator, Optional

from mlvl_fairseq.data.captions.cells import find_role
from mlvl_fairseq.data.captions.columns import Record, languages_of_header, read_columns
from mlvl_fairseq.data.captions.json_rows import has_keys
from mlvl_fairseq.data.captions.lines import raw_lines
from mlvl_fairseq.data.captions.reading import CaptionReader, CaptionSource, register_reader
from mlvl_fairseq.data.captions.table import TableBuilder
from mlvl_fairseq.errors import DataError

_DELIMITERS = ",;|"


@register_reader("csv")
class CsvReader(CaptionReader):
    """The header names the columns. Cells may be quoted, but not between bars, where quotation marks are text."""

    has_columns = True

    def sniff(self, head: str) -> bool:
        return not has_keys(head) and _delimiter(head.partition("\n")[0]) is not None

    def holds_languages(self, source: CaptionSource) -> bool:
        return bool(languages_of_header(_header(source.path)[1]))

    def read(self, source: CaptionSource, rows: TableBuilder) -> None:
        delimiter, header = _header(source.path)
        read_columns(_records(source.path, delimiter), len(header), source, rows, f"'{delimiter}'")


def _header(path) -> tuple[str, list[str]]:
    """The delimiter and the cells of the first line.

    Raises:
        DataError: they do not name an image and a caption.
    """
    first = next(raw_lines(path), "").strip()
    delimiter = _delimiter(first)
    if delimiter is None:
        raise DataError("has no header that names image and caption; write one, e.g. image,caption", path, line=1)
    return delimiter, first.split(delimiter)


def _delimiter(line: str) -> Optional[str]:
    for delimiter in _DELIMITERS:
        cells = line.strip().split(delimiter)
        if find_role("image", cells) and (find_role("caption", cells) or len(languages_of_header(cells)) > 1):
            return delimiter
    return None


def _records(path, delimiter: str) -> Iterator[Record]:
    quoting = csv.QUOTE_NONE if delimiter == "|" else csv.QUOTE_MINIMAL
    reader = csv.reader(raw_lines(path), delimiter=delimiter, quoting=quoting, skipinitialspace=True, strict=True)
    number = 1
    try:
        for cells in reader:
            if cells:  # blank lines are none
                yield number, [cell.rstrip("\r\n") for cell in cells]
            number = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"quotation marks do not fit CSV ({error}); mend the row that begins here", path, number
        ) from None
