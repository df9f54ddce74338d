"""Arrays of plain numbers, in ``.npy`` and ``.npz`` files and of unit length. Pickled content is refused unread."""

import math
import warnings
import zipfile
from pathlib import Path
from typing import BinaryIO, Dict, Optional, Sequence, Tuple, Union

import numpy as np

from mlvl_fairseq.digests import SEAL_BYTES, require_seal, require_zip, seal
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.files import atomic_path, open_file

KINDS = "biuf"  # of dtypes: truth values, integers, floating point numbers
MAX_NPZ_BYTES = 1 << 30  # what all arrays of an archive may inflate to: 2^28 ranks
SMALLEST_NORM = 1e-12  # that of torch.nn.functional.normalize
Shape = Sequence[Union[int, str]]  # a letter stands for any size


def unit_rows(features, dtype=np.float32) -> np.ndarray:
    """Rows, along the last axis, divided by their Euclidean norm in float64; rows of zeros stay."""
    rows = np.asarray(features, np.float64)
    return (rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), SMALLEST_NORM)).astype(dtype, copy=False)


def map_array(path, dtypes: Sequence[str] = (), shape: Optional[Shape] = None, advice: str = "") -> np.ndarray:
    """Map an ``.npy`` file into memory, read-only, if the file is as large as its header says.

    Args:
        path: the file.
        dtypes: names of those that will do, e.g. ``float16``; empty: any numbers.
        shape: expected, e.g. ``("n", 2)``; None: any.
        advice: what to do if it is not as expected.

    Returns:
        the array; in Fortran's order if the file is.

    Raises:
        DataError: the file is absent, no regular file, truncated or too long, or holds anything but such numbers.
    """
    return _map(path, dtypes, shape, advice)[0]


def _map(path, dtypes: Sequence[str], shape: Optional[Shape], advice: str) -> Tuple[np.ndarray, bool]:
    """The array, and whether there is a seal behind it."""
    with open_file(path) as file:
        dtype, found, fortran, offset = _read_header(file, path, advice)
        _require(path, dtype, found, dtypes, shape, advice)
        size, expected = Path(path).stat().st_size, offset + math.prod(found) * dtype.itemsize
        if size not in (expected, expected + SEAL_BYTES):
            what = "is truncated" if size < expected else "holds more than its numbers"
            raise DataError(_said(f"{what} ({size:,} bytes, not {expected:,})", advice), path)
    if 0 in found:  # nothing can be mapped
        return np.zeros(found, dtype), size > expected
    return np.memmap(path, dtype, "r", offset, found, "F" if fortran else "C"), size > expected


def read_array(path, dtypes: Sequence[str] = (), shape: Optional[Shape] = None, advice: str = "") -> np.ndarray:
    """The array of a (small) ``.npy`` file in memory, its seal verified if it has one; see :func:`map_array`."""
    array, sealed = _map(path, dtypes, shape, advice)
    if sealed:
        with open_file(path) as file:
            require_seal(file, path, advice)
    return np.array(array)


def write_array(path, array: np.ndarray) -> None:
    """Write an ``.npy`` file, atomically, with a seal (:mod:`mlvl_fairseq.digests`).

    Raises:
        DataError: it cannot be written.
    """
    with atomic_path(path) as temporary, open(temporary, "w+b") as file:
        np.save(file, array, allow_pickle=False)
        seal(file)


def read_arrays(path, expected: Dict[str, Tuple[str, Shape]], advice: str = "") -> Dict[str, np.ndarray]:
    """The arrays of an ``.npz`` file, its checksums verified, and its seal if it has one.

    Args:
        expected: name -> dtype and shape, see :func:`map_array`. Others are not read.

    Raises:
        DataError: the file is absent, no regular file, damaged, inflates to more than `MAX_NPZ_BYTES`, or lacks one.
    """
    with open_file(path) as file:
        try:
            require_zip(file, path, advice)
            with zipfile.ZipFile(file) as archive:
                sizes = {info.filename: info.file_size for info in archive.infolist()}
                if sum(sizes.values()) > MAX_NPZ_BYTES:
                    raise DataError(_said(f"inflates to more than {MAX_NPZ_BYTES:,} bytes", advice), path)
                return {
                    name: _read_entry(archive, name, sizes, path, dtype, shape, advice)
                    for name, (dtype, shape) in expected.items()
                }
        except DataError:
            raise
        except Exception as error:  # a damaged archive can fail in any way
            reason = str(error) or type(error).__name__
            raise DataError(_said(f"is truncated or damaged ({reason})", advice), path) from None


def write_arrays(path, arrays: Dict[str, np.ndarray]) -> None:
    """Write a compressed ``.npz`` file, atomically, with a seal.

    Raises:
        DataError: it cannot be written.
    """
    with atomic_path(path) as temporary, open(temporary, "w+b") as file:
        np.savez_compressed(file, **arrays)
        seal(file)


def _read_entry(
    archive: zipfile.ZipFile, name: str, sizes: Dict[str, int], path, dtype: str, shape: Shape, advice: str
) -> np.ndarray:
    entry = f"{name}.npy"
    if entry not in sizes:
        raise DataError(_said("is missing", advice), path, field=name)
    with archive.open(entry) as file:
        found_dtype, found, fortran, offset = _read_header(file, path, advice)
        _require(path, found_dtype, found, (dtype,), shape, advice)
        if sizes[entry] != offset + math.prod(found) * found_dtype.itemsize:
            raise DataError(_said("is not as large as its header says", advice), path, field=name)
        content = file.read()  # to the end: the checksum is compared there
    return np.frombuffer(content, found_dtype).reshape(found, order="F" if fortran else "C")


def _read_header(file: BinaryIO, path, advice: str) -> Tuple[np.dtype, Tuple[int, ...], bool, int]:
    """dtype, shape, whether in Fortran's order, and where the numbers begin."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # numpy warns of headers that Python 2 wrote, Python of odd literals
            version = np.lib.format.read_magic(file)
            read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
            shape, fortran, dtype = read(file)
    except Exception as error:  # the header is a Python literal, which can be wrong in any way
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(_said(f"is truncated or no .npy file of plain numbers ({reason})", advice), path) from None
    if dtype.kind not in KINDS or dtype.shape or not dtype.isnative:
        what = f"is no .npy file of plain numbers in this machine's byte order: it holds {dtype}"
        raise DataError(_said(what, advice), path)
    if not all(type(size) is int and 0 <= size < 2**48 for size in shape) or math.prod(shape) >= 2**48:
        raise DataError(_said(f"has the impossible shape {list(shape)}", advice), path)
    return dtype, shape, fortran, file.tell()


def _require(path, dtype: np.dtype, found: Sequence[int], dtypes, shape: Optional[Shape], advice: str) -> None:
    fits = (
        shape is None
        or len(found) == len(shape)
        and all(isinstance(wanted, str) or size == wanted for size, wanted in zip(found, shape))
    )
    if (dtypes and dtype.name not in dtypes) or not fits:
        wanted = " or ".join(dtypes) or "numbers"
        wanted += "" if shape is None else f" [{', '.join(map(str, shape))}]"
        raise DataError(_said(f"is {dtype} {list(found)}, not {wanted}", advice), path)


def _said(what: str, advice: str) -> str:
    return f"{what}; {advice}" if advice else what
