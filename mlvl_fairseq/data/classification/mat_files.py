"""Arrays of numbers in MATLAB 5 files (``.mat``). Nothing but numbers is read, and never more than is allowed.

Format: "MAT-File Level 5 File Format" (MathWorks): 128 bytes of header, then elements of a tag (type, bytes) and data;
an element may be deflated.
"""

import math
import struct
import zlib
from typing import Dict, NamedTuple, Sequence

import numpy as np

from mlvl_fairseq.errors import DataError
from mlvl_fairseq.files import open_file

LARGEST = 1 << 32  # bytes that an element may inflate to: SVHN's extra pictures have 1.6e9
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_MATRIX, _DEFLATED = 14, 15
_NUMERIC_CLASSES = range(6, 16)  # double, single, integers; not cells, structures, objects, text, sparse matrices


class _Element(NamedTuple):
    kind: int
    data: memoryview
    rest: memoryview


def read_mat(path, names: Sequence[str], advice: str) -> Dict[str, np.ndarray]:
    """Some arrays of a file, in the order of memory that MATLAB has.

    Args:
        names: of the arrays. advice: what to do if the file is not as expected.

    Raises:
        DataError: it is missing, of another format, truncated, damaged or too large, or lacks an array of numbers.
    """
    with open_file(path, advice) as file:
        header = file.read(128)
        if len(header) < 128 or header[124:128] != b"\x00\x01IM":
            raise DataError(f"is no MATLAB 5 file (little-endian); {advice}", path)
        found: Dict[str, np.ndarray] = {}
        while len(tag := file.read(8)) == 8 and len(found) < len(names):
            kind, size = struct.unpack("<II", tag)
            data = file.read(min(size, LARGEST))
            if len(data) < size:
                raise DataError(f"is truncated; {advice}", path)
            try:
                _read_into(found, names, kind, data)
            except (ValueError, IndexError, struct.error, zlib.error) as error:
                raise DataError(f"is damaged ({error}); {advice}", path) from None
    missing = [name for name in names if name not in found]
    if missing:
        raise DataError(f"holds no array {' and '.join(missing)}; {advice}", path)
    return found


def _read_into(found: Dict[str, np.ndarray], names: Sequence[str], kind: int, data: bytes) -> None:
    if kind == _DEFLATED:
        inflater = zlib.decompressobj()
        tag = inflater.decompress(data, 8)
        kind, size = struct.unpack("<II", tag)
        if size > LARGEST:
            raise ValueError(f"an array of {size:,} bytes")
        data = inflater.decompress(inflater.unconsumed_tail, size) if size else b""
        if len(data) < size:
            raise ValueError("an array ends early")
    if kind != _MATRIX:
        return
    flags = _element(memoryview(data))
    dimensions = _element(flags.rest)
    name = _element(dimensions.rest)
    text = bytes(name.data).decode("latin-1")
    if text not in names:
        return
    if flags.data[0] not in _NUMERIC_CLASSES:
        raise ValueError(f"{text} is no array of numbers")
    shape = [int(size) for size in np.frombuffer(dimensions.data, "<i4")]
    numbers = _element(name.rest)
    dtype = np.dtype(f"<{_NUMBERS.get(numbers.kind, 'V0')}")
    if dtype.kind == "V" or min(shape) < 1 or math.prod(shape) * dtype.itemsize != len(numbers.data):
        raise ValueError(f"{text} is not as large as its header says")
    found[text] = np.frombuffer(numbers.data, dtype).reshape(shape, order="F")


def _element(data: memoryview) -> _Element:
    """The first element; up to four bytes of data stand in its tag."""
    kind, size = struct.unpack("<II", data[:8])
    if kind >> 16:
        kind, size = kind & 0xFFFF, kind >> 16
        if size > 4:
            raise ValueError("a tag is wrong")
        return _Element(kind, data[4 : 4 + size], data[8:])
    if size > len(data) - 8:
        raise ValueError("an element ends early")
    return _Element(kind, data[8 : 8 + size], data[8 + -(-size // 8) * 8 :])
