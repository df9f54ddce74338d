"""Members of tar archives: where each is, found without reading it."""

import tarfile
from typing import Iterator, Tuple

from mlvl_fairseq.errors import DataError
from mlvl_fairseq.files import open_file


def is_tar(head: bytes) -> bool:
    """Whether a file that begins so (512 bytes) is a tar archive."""
    return head[257:262] == b"ustar"


def tar_members(path: str, size: int) -> Iterator[Tuple[str, int, int]]:
    """Name, place and bytes of each regular file in an archive of `size` bytes.

    Raises:
        DataError: it is damaged or truncated.
    """
    try:
        with open_file(path) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                archive.members.clear()  # which tarfile keeps all of
                if member.offset_data + member.size > size:
                    raise DataError(f"is truncated in '{member.name}'; copy it again", path)
                if member.isreg():
                    yield member.name, member.offset_data, member.size
            file.seek(archive.offset)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # tarfile takes a cut header for the end
                raise DataError("has no end: it is truncated; copy it again", path)
    except tarfile.TarError as error:
        raise DataError(f"is a damaged tar archive ({error}); copy it again", path) from None
