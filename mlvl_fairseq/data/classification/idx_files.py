"""IDX files, plain or gzip: the arrays of bytes that MNIST and FashionMNIST are published as."""

import gzip
import math
import os
import zlib

import numpy as np

from mlvl_fairseq.errors import DataError
from mlvl_fairseq.files import inflated, open_file

_UINT8 = 0x08
LARGEST = 1 << 30  # bytes that an array may have


def read_idx(path, dimensions: int, advice: str) -> np.ndarray:
    """uint8 array; of `path` itself, or with ``.gz`` where only that is there.

    Raises:
        DataError: it is missing, damaged, no array of bytes with so many dimensions, or too large.
    """
    path = path if os.path.exists(path) or not os.path.exists(f"{path}.gz") else f"{path}.gz"
    with open_file(path, advice) as raw:
        file = inflated(raw, path) if raw.peek(2)[:2] == b"\x1f\x8b" else raw
        try:
            magic = file.read(4)
            if magic != bytes([0, 0, _UINT8, dimensions]):
                raise DataError(f"is no IDX file of bytes in {dimensions} dimensions; {advice}", path)
            header = file.read(4 * dimensions)
            shape = [int(size) for size in np.frombuffer(header, ">u4")] if len(header) == 4 * dimensions else [0]
            size = math.prod(shape)
            if not 0 < size <= LARGEST:
                raise DataError(f"says that it holds {size:,} bytes (truncated?); {advice}", path)
            content = file.read(size + 1)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(f"is truncated or damaged ({error}); {advice}", path) from None
    if len(content) != size:
        what = "is truncated" if len(content) < size else "holds more than its array"
        raise DataError(f"{what} ({size:,} bytes are expected); {advice}", path)
    return np.frombuffer(content, np.uint8).reshape(shape)
