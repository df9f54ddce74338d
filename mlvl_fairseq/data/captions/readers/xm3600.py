"""Crossmodal-3600's ``captions.jsonl``: an image a line, with captions in all languages."""

import os
from functools import lru_cache
from typing import Any

from mlvl_fairseq.data.captions.json_rows import iter_lines, object_lines, outline, type_name
from mlvl_fairseq.data.captions.reading import CaptionReader, CaptionSource, register_reader
from mlvl_fairseq.data.captions.table import MISSING_FIELD, NO_CAPTION, WRONG_TYPE, TableBuilder
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.files import require_file

_KEY = "image/key"


def looks_like_xm3600(head: str) -> bool:
    """Do the lines have the field that names the image in this data set?"""
    objects = object_lines(head)
    return any(_KEY in value for value in objects) if objects else _KEY in outline(head)


@register_reader("xm3600")
class Xm3600Reader(CaptionReader):
    """``{"image/key": "0a1b", "en": {"caption": ["...", ...], "caption/tokenized": ...}, "zh": {...}, ...}``; the
    captions as they were written are read, not the tokenised ones. Images are named by their key; where the folder of
    the images is known, by the key's file."""

    def sniff(self, head: str) -> bool:
        return looks_like_xm3600(head)

    def holds_languages(self, source: CaptionSource) -> bool:
        return True

    def read(self, source: CaptionSource, rows: TableBuilder) -> None:
        require_file(source.path)
        stat = os.stat(source.path)
        lines, faults = _load(source.path, stat.st_mtime_ns, stat.st_size)
        languages = sorted({lang for _, _, captions in lines for lang in captions})
        if source.lang not in languages:
            wanted = f"'{source.lang}'" if source.lang else "the one that is not said"
            raise DataError(
                f"has no captions in language {wanted}; it has {', '.join(languages) or 'none'}", source.path
            )
        for number, kind, why in faults:
            rows.skip(kind, why, number)
        for number, name, captions in lines:
            if source.lang not in captions:
                rows.skip(NO_CAPTION, f"'{name}' has no caption in '{source.lang}'", number, source.lang, captions=0)
            for caption in captions.get(source.lang, ()):
                if isinstance(caption, str):
                    rows.add(number, name, caption)
                else:
                    why = f"expected strings in the list, found {type_name(caption)}"
                    rows.skip(WRONG_TYPE, why, number, source.lang)


Lines = list[tuple[int, str, dict[str, list]]]  # line, image, captions by language


@lru_cache(maxsize=1)
def _load(path: str, modified: int, size: int) -> tuple[Lines, list[tuple[int, str, str]]]:
    """The lines of a file, and what is wrong with others (line, kind, why). The last file is kept: each of its
    languages reads it."""
    lines: Lines = []
    faults: list[tuple[int, str, str]] = []
    for number, value in iter_lines(path, lambda kind, why, line: faults.append((line, kind, why))):
        name = value.get(_KEY) if isinstance(value, dict) else None
        if isinstance(name, str):
            lines.append((number, name, {lang: _captions(entry) for lang, entry in value.items() if _is_entry(entry)}))
        else:
            faults.append((number, MISSING_FIELD, f"has no '{_KEY}' that is a string"))
    return lines, faults


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, dict) and "caption" in entry


def _captions(entry: dict) -> list:
    return entry["caption"] if isinstance(entry["caption"], list) else [entry["caption"]]
