"""Caption files in, columns out; and English partners for captions of other languages.

One file a format in ``readers/``; :func:`read_captions` picks the format, :class:`Problems` tells what was wrong.
"""

from mlvl_fairseq.data.captions.pairing import english_rows, unmatched_english
from mlvl_fairseq.data.captions.reading import (
    CaptionReader,
    CaptionSource,
    ReadingOptions,
    read_captions,
    read_languages,
    register_reader,
)
from mlvl_fairseq.data.captions.table import CaptionTable, Problems, TableBuilder, unique_texts

__all__ = [
    "CaptionReader",
    "CaptionSource",
    "CaptionTable",
    "Problems",
    "TableBuilder",
    "ReadingOptions",
    "english_rows",
    "read_captions",
    "read_languages",
    "register_reader",
    "unique_texts",
    "unmatched_english",
]
