"""Digests of what we write: CRC-32, which finds every flipped bit and every burst up to 32 bits, at 3 GB/s.

An array of features has its digest in its manifest (:func:`crc32_of`). A file without a manifest is sealed: its last
bytes are a mark and the digest of all before them. Zip files (checkpoints, ``.npz``) hold the seal as their comment,
and readers of ``.npy`` ignore what follows the numbers, so that programs that know nothing of seals read these files
as before. Files of earlier versions have no seal. Files of others are told apart by SHA-256.
"""

import hashlib
import os
import re
import zlib
from pathlib import Path
from typing import BinaryIO, Optional

from mlvl_fairseq.errors import DataError
from mlvl_fairseq.files import open_file

DAMAGED = "is truncated or damaged: some of its bytes are not those that were written"
_MARK = b"mlvl crc32 "
SEAL_BYTES = len(_MARK) + 8
_SEAL = re.compile(re.escape(_MARK) + rb"([0-9a-f]{8})")
_ZIP_END, _ZIP_END_BYTES = b"PK\x05\x06", 22
_CHUNK = 1 << 20
_WEIGHT_FILES = (".bin", ".json", ".safetensors")


def crc32_of(file: BinaryIO, size: Optional[int] = None, start: int = 0) -> int:
    """CRC-32 of the next `size` bytes of an open file (None: of all that follow), 1 MiB at a time; `start`: that of the
    bytes before."""
    crc, left = start, float("inf") if size is None else size
    while left > 0 and (chunk := file.read(int(min(left, _CHUNK)))):
        crc, left = zlib.crc32(chunk, crc), left - len(chunk)
    return crc


def seal(file: BinaryIO) -> None:
    """Seal a file that has just been written; it is open for reading and writing.

    A zip file says at its end how long its comment is. The digest is that of the file without seal, where it says 0.
    """
    file.seek(0)
    mark = _MARK + b"%08x" % crc32_of(file)
    if _ends_as_zip(file):
        file.seek(-2, os.SEEK_END)
        file.write(SEAL_BYTES.to_bytes(2, "little"))
    file.seek(0, os.SEEK_END)
    file.write(mark)


def require_seal(file: BinaryIO, path, advice: str) -> None:
    """Verify the seal of a file that is open for reading; its position is kept.

    Args:
        path: for messages. advice: what to do about a damaged file.

    Raises:
        DataError: the file is not as it was when it was sealed.
    """
    position = file.tell()
    size = file.seek(0, os.SEEK_END) - SEAL_BYTES
    file.seek(max(size, 0))
    found = _SEAL.fullmatch(file.read())
    in_zip = _ends_as_zip(file, SEAL_BYTES)
    file.seek(0)
    crc = crc32_of(file, size - 2 if in_zip else size)
    crc = zlib.crc32(bytes(2), crc) if in_zip else crc
    if not found or crc != int(found[1], 16):
        raise DataError(f"{DAMAGED}; {advice}", path)
    file.seek(position)


def require_zip(file: BinaryIO, path, advice: str) -> bool:
    """Look at a zip file's end, and verify its seal; its position is kept.

    Returns:
        whether it is sealed; files of earlier versions and of other programs are not.

    Raises:
        DataError: it is truncated or not as it was when it was sealed, or has a comment.
    """
    position = file.tell()
    sealed = not _ends_as_zip(file)
    file.seek(position)
    if sealed:
        require_seal(file, path, advice)
    return sealed


def file_sha256(path) -> str:
    """SHA-256 (64 hexadecimal digits) of a file's bytes. Raises DataError: it is no regular file."""
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_fingerprint(path) -> str:
    """sha256 (hex) of a file with weights; of a folder, of the weights and settings in it."""
    path = Path(path)
    if not path.is_dir():
        return file_sha256(path)
    digest = hashlib.sha256()
    for file in sorted(file for file in path.iterdir() if file.suffix in _WEIGHT_FILES):
        digest.update(f"{file.name} {file_sha256(file)}\n".encode())
    return digest.hexdigest()


def _ends_as_zip(file: BinaryIO, comment: int = 0) -> bool:
    """Whether a zip file's directory ends `comment` bytes before the file does, and says so."""
    place = file.seek(0, os.SEEK_END) - comment - _ZIP_END_BYTES
    if place < 0:
        return False
    file.seek(place)
    end = file.read(_ZIP_END_BYTES)
    return end.startswith(_ZIP_END) and end[-2:] == comment.to_bytes(2, "little")
