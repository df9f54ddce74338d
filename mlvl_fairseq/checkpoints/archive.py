"""Files with tensors as files: written with a seal, verified before anything in them is believed.

torch itself compares no checksum when it loads, and inflates what is compressed. A seal is the CRC-32 of the whole
file, so that no byte of it can change; files without, of earlier versions or other programs, have the CRC-32 of each
entry. Either costs 0.2 s/GB, to write or to read, beside the 2.2 s/GB of `torch.save` and the 0.5 s/GB of `torch.load`
(one core of an AMD EPYC).
"""

import os
import re
import zipfile
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO, Mapping, Optional

from mlvl_fairseq.digests import crc32_of, require_zip, seal
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.files import atomic_path, open_file

if TYPE_CHECKING:
    import torch

ZIP_MAGIC = b"PK\x03\x04"
_AGAIN = "restore it from a good copy"
_CHUNK = 1 << 20


def write_checkpoint(content: Any, file: BinaryIO) -> None:
    """`torch.save` into an empty file that is open for reading and writing (``w+b``), with a seal."""
    import torch  # is read while fairseq is patched, which commands that compute nothing do, too

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


# A safetensors file has no room behind its numbers: its seal is an entry of its metadata, and the digest is that of the
# file where the entry is as here.
UNSEALED = {"mlvl_crc32": "00000000"}
_SEAL = re.compile(rb'"mlvl_crc32":"([0-9a-f]{8})"')
_MAX_HEADER = 100_000_000  # bytes, as the library has it


def save_safetensors(tensors: Mapping[str, "torch.Tensor"], path) -> None:
    """Write a sealed safetensors file, atomically; readable by whom new files are readable.

    Raises:
        DataError: it cannot be written.
    """
    from safetensors.torch import save_file

    with atomic_path(path) as temporary:
        mode = os.stat(temporary).st_mode
        plain = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
        save_file(plain, temporary, metadata={"format": "pt", **UNSEALED})
        os.chmod(temporary, mode)  # the library's own is for the owner alone
        seal_safetensors(temporary)


def seal_safetensors(path) -> None:
    """Seal a file that was written with :data:`UNSEALED` in its metadata."""
    with open(path, "r+b") as file:
        place = _find_seal(file).start(1)
        file.seek(0)
        digest = b"%08x" % crc32_of(file)
        file.seek(place)
        file.write(digest)


def verify_safetensors(path) -> None:
    """Verify the seal of a safetensors file; one without is another program's.

    Raises:
        DataError: it is damaged.
    """
    with open_file(path) as file:
        found = _find_seal(file)
        if found is None:
            return
        file.seek(0)
        crc = zlib.crc32(UNSEALED["mlvl_crc32"].encode(), crc32_of(file, found.start(1)))
        file.seek(found.end(1))
        if crc32_of(file, start=crc) != int(found[1], 16):
            raise DataError(
                f"is truncated or damaged: some of its bytes are not those that were written; {_AGAIN}", path
            )


def _find_seal(file: BinaryIO) -> Optional[re.Match]:
    """The seal; its places are those in the file."""
    size = int.from_bytes(file.read(8), "little")
    file.seek(0)
    return _SEAL.search(file.read(8 + min(size, _MAX_HEADER)))
