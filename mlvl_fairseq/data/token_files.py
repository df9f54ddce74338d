"""fairseq's memory-mapped token files, ``PREFIX.bin`` and ``PREFIX.idx``: written many sentences at a time, without
fairseq and torch, and opened only if they are whole: fairseq itself checks next to nothing, and a place behind the
file's end shows in the middle of training.
"""

import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, List, Optional, Tuple

import numpy as np

from mlvl_fairseq.errors import DataError
from mlvl_fairseq.files import open_file, require_file

if TYPE_CHECKING:  # fairseq and torch take seconds to import
    from fairseq.data.indexed_dataset import MMapIndexedDataset

_HEADER = struct.Struct("<9sQBQ")  # magic, version, code of the tokens' type, number of sentences
_BYTES_PER_SENTENCE = 4 + 8  # length and place
_CHUNK = 1 << 20  # looked at together
_MAGIC, _VERSION = b"MMIDIDX\x00\x00", 1
_CODES = {"uint16": 8, "uint32": 9}  # of the tokens' type, in fairseq's table
_SMALL = 65_500  # entries of a vocabulary; fairseq has 32 bits for a token from here on


class TokenWriter:
    """Writes ``PREFIX.bin`` and ``PREFIX.idx`` as ``fairseq-preprocess`` does; they appear when both are whole.

    Args:
        prefix: path without ending; its folder must exist. vocab_size: ids are below it.
    """

    def __init__(self, prefix, vocab_size: int):
        self.prefix, self._dtype = Path(prefix), np.dtype("uint16" if vocab_size < _SMALL else "uint32")
        self._temporary = self.prefix.with_name(f".{self.prefix.name}")
        self._file = open(_with_ending(self._temporary, ".bin"), "wb")
        self._lengths: List[np.ndarray] = []

    def write(self, tokens: np.ndarray, lengths: np.ndarray) -> None:
        """Append sentences. Args: tokens: int [t], of all of them. lengths: int [n], of each; their sum is t."""
        self._file.write(tokens.astype(self._dtype).tobytes())
        self._lengths.append(lengths.astype(np.int32))

    def finish(self) -> np.ndarray:
        """Let the files take their places. Returns int32 [n], the length of every sentence."""
        self._file.close()
        lengths = np.concatenate(self._lengths) if self._lengths else np.empty(0, np.int32)
        ends = np.cumsum(lengths, dtype=np.int64)
        with open(_with_ending(self._temporary, ".idx"), "wb") as index:
            index.write(_HEADER.pack(_MAGIC, _VERSION, _CODES[self._dtype.name], len(lengths)))
            index.write(lengths.tobytes())
            index.write(((ends - lengths) * self._dtype.itemsize).tobytes())
        for ending in (".bin", ".idx"):
            os.replace(_with_ending(self._temporary, ending), _with_ending(self.prefix, ending))
        return lengths


def _with_ending(prefix: Path, ending: str) -> Path:
    return prefix.with_name(prefix.name + ending)


def open_tokens(
    prefix, vocab_size: Optional[int] = None, advice: str = "delete its folder and run mlvl-prepare again"
) -> "MMapIndexedDataset":
    """The sentences in ``prefix.bin`` and ``prefix.idx``, memory-mapped.

    Args:
        vocab_size: ids are below it; None: ids are not looked at. (fairseq reads the whole file once in any case.)
        advice: what to do about damaged files.

    Raises:
        DataError: a file is absent, no regular file, damaged or truncated, holds no sentence, or an id that is too
            large.
    """
    from fairseq.data.indexed_dataset import MMapIndexedDataset, data_file_path, index_file_path

    data, index = Path(data_file_path(str(prefix))), Path(index_file_path(str(prefix)))
    for path in (data, index):
        require_file(path, advice)
    dtype, sentences = _read_header(index, advice)
    tokens = _require_places(data, index, dtype.itemsize, sentences, advice)
    if vocab_size is not None:
        _require_ids(data, dtype, tokens, vocab_size, advice)
    return MMapIndexedDataset(str(prefix))


def _read_header(index: Path, advice: str) -> Tuple[np.dtype, int]:
    """The tokens' type, and the number of sentences, which is not 0."""
    from fairseq.data.indexed_dataset import MMapIndexedDataset, _code_to_dtype

    with open_file(index) as file:
        header = file.read(_HEADER.size)
    if len(header) == _HEADER.size:
        magic, version, code, sentences = _HEADER.unpack(header)
        dtype = np.dtype(_code_to_dtype.get(code, float))
        known = magic == MMapIndexedDataset.Index._HDR_MAGIC and version == 1 and np.can_cast(dtype, np.int64)
        if known and sentences and index.stat().st_size == _HEADER.size + sentences * _BYTES_PER_SENTENCE:
            return dtype, sentences
    raise DataError(f"is truncated, or no index of binarized sentences; {advice}", index)


def _require_places(data: Path, index: Path, itemsize: int, sentences: int, advice: str) -> int:
    """Sentences lie one behind the other, none is empty (each has its EOS), and the last ends with the file. Gives the
    number of tokens."""
    lengths = np.memmap(index, np.int32, "r", _HEADER.size, sentences)
    places = np.memmap(index, np.int64, "r", _HEADER.size + lengths.nbytes, sentences)
    tokens = 0
    for start in range(0, sentences, _CHUNK):
        own = lengths[start : start + _CHUNK].astype(np.int64)
        ends = tokens + np.cumsum(own)
        if own.min() < 1 or not np.array_equal(places[start : start + _CHUNK], (ends - own) * itemsize):
            raise DataError(f"is damaged: its sentences do not lie one behind the other; {advice}", index)
        tokens = int(ends[-1])
    if data.stat().st_size != tokens * itemsize:
        raise DataError(f"is truncated, or does not belong to {index.name}; {advice}", data)
    return tokens


def _require_ids(data: Path, dtype: np.dtype, tokens: int, vocab_size: int, advice: str) -> None:
    ids = np.memmap(data, dtype, "r", shape=(tokens,))
    for start in range(0, tokens, _CHUNK):
        own = ids[start : start + _CHUNK]
        if own.min() < 0 or own.max() >= vocab_size:
            wrong = next(int(one) for one in (own.min(), own.max()) if not 0 <= one < vocab_size)
            raise DataError(f"holds token {wrong}, the vocabulary ends at {vocab_size - 1}; {advice}", data)
