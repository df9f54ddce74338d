"""Which files data are read from: files, folders, patterns, several of them."""

import glob
import os
from typing import List

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.files import require_file

INDEX_SUFFIX = ".index.npy"
ARCHIVE_INDEX = ".index.npz"
_MARKS = "_SUCCESS"  # in the names of files that Hadoop leaves beside its data
_REMOTE = ("hdfs://", "s3://", "gs://", "http://", "https://")


def stream_files(paths: str, option: str) -> List[str]:
    """The files of a stream, each once, in the order in which they are given; those of a folder or pattern by name.

    Hidden files, indices and what Hadoop leaves (``_SUCCESS``) are no data.

    Args:
        paths: files, folders and patterns (``part-*``), separated by commas. option: for messages: ``--image-text``.

    Raises:
        UserError: nothing is found for one, or it is not on this machine. DataError: one is no regular file.
    """
    found: List[str] = []
    for path in filter(None, map(str.strip, paths.split(","))):
        refuse_remote(path, option)
        if os.path.isdir(path):
            files = sorted(entry.path for entry in os.scandir(path) if entry.is_file())
        elif glob.has_magic(path) and not os.path.exists(path):
            files = sorted(filter(os.path.isfile, glob.glob(path)))
        else:
            require_file(path)
            files = [path]
        files = [file for file in files if is_data(file)]
        if not files:
            raise UserError(f"{option} {path}: there is no file of records")
        found += files
    once = {os.path.realpath(file): file for file in reversed(found)}
    return [file for file in dict.fromkeys(found) if once[os.path.realpath(file)] == file]


def is_data(path: str) -> bool:
    name = os.path.basename(path)
    return not name.startswith(".") and _MARKS not in name and not name.endswith((INDEX_SUFFIX, ARCHIVE_INDEX))


def refuse_remote(path: str, option: str) -> None:
    """Raises UserError: a path is one of another machine's."""
    if path.startswith(_REMOTE):
        scheme = path.partition("://")[0]
        how = f"hadoop fs -get {path} FOLDER" if scheme == "hdfs" else "download it"
        raise UserError(f"{option} {path}: {scheme} is not read from here; copy it first ({how}) and give the copy")
