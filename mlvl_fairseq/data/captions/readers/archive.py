"""Pictures with their captions in archives: shards of tar files (webdataset), Parquet files."""

import os
from typing import Any, Dict, Iterator, List, Tuple

from mlvl_fairseq.data.archives import archive_at, kind_at
from mlvl_fairseq.data.captions.json_rows import names_its_language, read_rows
from mlvl_fairseq.data.captions.reading import CaptionReader, CaptionSource, register_reader
from mlvl_fairseq.data.captions.table import WRONG_TYPE, TableBuilder
from mlvl_fairseq.data.data_files import stream_files
from mlvl_fairseq.errors import DataError, UserError


@register_reader("archive")
class ArchiveReader(CaptionReader):
    """Fields of a record as in lines of JSON; a picture is called by its place in the archive, below ``--image-root``.
    A folder of archives, a pattern (``shards/*.tar``) and several with commas are read one after the other."""

    unit = "row"
    has_columns = True

    def sniff(self, head: str) -> bool:
        return False  # told by bytes

    def recognises(self, path: str) -> bool:
        return bool(_kinds(path))

    def read(self, source: CaptionSource, rows: TableBuilder) -> None:
        whole = rows.path
        for file in _files(source.path):
            rows.path = file  # what is wrong is wrong there
            read_rows(_rows(file, rows), source, rows)
        rows.path = whole

    def holds_languages(self, source: CaptionSource) -> bool:
        archives = map(archive_at, _files(source.path))
        first = next((row for archive in archives for _, row in archive.rows(lambda *_: None)), None)
        return names_its_language(first)


def _kinds(path: str) -> Dict[str, str]:
    """The archives with captions that a path names, in order, and their kinds; none where nothing is there."""
    try:
        kinds = {file: kind_at(file) for file in stream_files(path, "captions")}
    except (UserError, DataError):
        return {}
    return {file: kind.kind for file, kind in kinds.items() if kind is not None and kind.has_captions}


def _files(path: str) -> List[str]:
    """Raises UserError: a path names archives of several kinds, or none."""
    kinds = _kinds(path)
    several = sorted(set(kinds.values()))
    if len(several) != 1:
        found = f"there are archives of the kinds {' and '.join(several)}" if several else "there is no archive"
        raise UserError(f"{path}: {found}: give files, a folder or a pattern of one kind")
    return list(kinds)


def _rows(file: str, table: TableBuilder) -> Iterator[Tuple[int, Dict[str, Any]]]:
    """The records of an archive. Pictures are called by their places as ``table.image_root`` needs it."""
    prefix = os.path.basename(file) if table.image_root is None else os.path.abspath(file)
    for number, fields in archive_at(file).rows(lambda number, why: table.skip(WRONG_TYPE, why, number)):
        yield number, {**fields, "image": f"{prefix}/{fields['image']}"}
