"""Binarized captions, opened only if their two files are whole and belong together."""

import struct
from pathlib import Path
from typing import Tuple

import numpy as np
from fairseq.data.indexed_dataset import MMapIndexedDataset, _code_to_dtype, data_file_path, index_file_path

from mlvl_fairseq.errors import DataError

_HEADER = struct.Struct("<9sQBQ")  # magic, version, code of the tokens' type, number of captions
_BYTES_PER_CAPTION = 4 + 8  # length and place
_AGAIN = "delete its folder and run mlvl-prepare again"


def open_tokens(prefix) -> MMapIndexedDataset:
    """The captions in ``prefix.bin`` and ``prefix.idx``, memory-mapped; fairseq itself checks next to nothing.

    Raises:
        DataError: a file is absent, damaged or truncated.
    """
    data, index = Path(data_file_path(str(prefix))), Path(index_file_path(str(prefix)))
    for path in (data, index):
        if not path.exists():
            raise DataError("no binarized captions; run mlvl-prepare", path)
    itemsize, captions = _read_header(index)
    lengths = np.memmap(index, np.int32, "r", _HEADER.size, captions)
    if lengths.min() < 0 or data.stat().st_size != int(lengths.sum(dtype=np.int64)) * itemsize:
        raise DataError(f"is truncated, or does not belong to {index.name}; {_AGAIN}", data)
    return MMapIndexedDataset(str(prefix))


def _read_header(index: Path) -> Tuple[int, int]:
    """Bytes a token, and number of captions, which is not 0."""
    with open(index, "rb") as file:
        header = file.read(_HEADER.size)
    if len(header) == _HEADER.size:
        magic, version, code, captions = _HEADER.unpack(header)
        dtype = np.dtype(_code_to_dtype.get(code, float))
        known = magic == MMapIndexedDataset.Index._HDR_MAGIC and version == 1 and np.can_cast(dtype, np.int64)
        if known and captions and index.stat().st_size == _HEADER.size + captions * _BYTES_PER_CAPTION:
            return dtype.itemsize, captions
    raise DataError(f"is truncated, or no index of binarized captions; {_AGAIN}", index)
