"""The zip files of `torch.save` as files: written with a seal, verified before anything in them is believed.

torch itself compares no checksum when it loads, and inflates what is compressed. What it costs: 0.3 s/GB to seal or to
verify a seal (CRC-32 of the whole file, so that no byte of it can change), 1 s/GB for files without seal, of earlier
versions or other programs (the CRC-32 of each entry).
"""

import os
import zipfile
from typing import Any, BinaryIO

import torch

from mlvl_fairseq.digests import require_zip, seal
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.files import atomic_path

ZIP_MAGIC = b"PK\x03\x04"
_AGAIN = "restore it from a good copy"
_CHUNK = 1 << 20


def write_checkpoint(content: Any, file: BinaryIO) -> None:
    """`torch.save` into an empty file that is open for reading and writing (``w+b``), with a seal."""
    torch.save(content, file)
    seal(file)


def save_checkpoint(content: Any, path) -> None:
    """:func:`write_checkpoint`, atomically.

    Raises:
        DataError: the file cannot be written.
    """
    with atomic_path(path) as temporary, open(temporary, "w+b") as file:
        write_checkpoint(content, file)


def verify_archive(file: BinaryIO, path) -> None:
    """Verify a file of `torch.save`, open for reading; its position is kept. Files that are no zip (torch before 1.6)
    have no checksums.

    Raises:
        DataError: it is damaged, or holds entries that are compressed or together larger than the file.
    """
    start = file.tell()
    is_zip = file.read(len(ZIP_MAGIC)) == ZIP_MAGIC
    file.seek(start)
    if not is_zip:
        return
    sealed = require_zip(file, path, _AGAIN)
    try:
        with zipfile.ZipFile(file) as archive:
            _require_plain(archive, file.seek(0, os.SEEK_END), path)
            if not sealed:
                _compare_checksums(archive)
    except DataError:
        raise
    except Exception as error:  # a damaged directory can fail in any way
        raise DataError(f"is truncated or damaged ({error}); {_AGAIN}", path) from None
    file.seek(start)


def _require_plain(archive: zipfile.ZipFile, size: int, path) -> None:
    """torch stores entries as they are: what is compressed or overlaps would inflate."""
    entries = archive.infolist()
    if any(entry.filename.endswith("/constants.pkl") for entry in entries):
        raise DataError("is a TorchScript archive, which could run code, and no file of torch.save", path)
    if len({entry.filename for entry in entries}) < len(entries):
        raise DataError("holds two entries of one name, and is no file of torch.save", path)
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            raise DataError(f"holds a compressed entry ({entry.filename}), and is no file of torch.save", path)
    if sum(entry.file_size for entry in entries) > size:
        raise DataError("holds entries larger than the file, and is no file of torch.save", path)


def _compare_checksums(archive: zipfile.ZipFile) -> None:
    for entry in archive.infolist():
        with archive.open(entry) as content:
            while content.read(_CHUNK):
                pass
