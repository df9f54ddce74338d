"""Records of any number of files as one list, each read where it stands when it is asked for."""

import os
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence

import msgspec
import numpy as np

from mlvl_fairseq.data.data_files import stream_files
from mlvl_fairseq.data.streams.containers import open_container
from mlvl_fairseq.errors import DataError, UserError, one_line
from mlvl_fairseq.files import open_file

_OPEN_FILES = 64  # of a process at a time
_DECODER = msgspec.json.Decoder()


@dataclass(frozen=True)
class Record:
    """A record.

    Attributes:
        fields: of the JSON object. picture: bytes of the picture beside it in an archive.
        path, line: where it stands, for messages.
    """

    fields: Dict[str, Any]
    picture: Optional[bytes]
    path: str
    line: int

    def error(self, message: str, field: Optional[str] = None) -> DataError:
        """What is wrong with it."""
        return DataError(message, self.path, self.line, field)

    def get(self, field: str) -> Any:
        """Raises DataError: there is no such field."""
        if self.fields.get(field) is None:
            raise self.error("is missing", field)
        return self.fields[field]

    def text(self, field: str) -> str:
        """Raises DataError: there is no such field, or it is no text."""
        value = self.get(field)
        if not isinstance(value, str):
            raise self.error("is no text", field)
        return value


class Records:
    """Record -> :class:`Record`, of files one after the other.

    Args:
        paths, option: see :func:`stream_files`. index_folder: see :func:`open_container`.

    Raises:
        UserError: there is no file, or no record. DataError: a file is damaged.
    """

    def __init__(self, paths: str, option: str, index_folder: str = ""):
        self.files = [open_container(path, index_folder) for path in stream_files(paths, option)]
        self._starts = np.cumsum([0, *map(len, self.files)])
        if not len(self):
            raise UserError(f"{option} {paths}: there is no record in it")
        self._descriptors: "OrderedDict[int, int]" = OrderedDict()

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, record: int) -> Record:
        """Raises DataError: it is no JSON object, or the file is not as it was."""
        number = int(np.searchsorted(self._starts, record, side="right")) - 1
        file = self.files[number]
        content = file.read(self._descriptor(number), int(record - self._starts[number]))
        if content.text is None:
            raise DataError("has no text (.json or .txt) beside its picture", file.path, content.line)
        where = file.path, content.line
        fields = _object(content.text, *where) if content.is_json else {"caption": _utf8(content.text, *where)}
        return Record(fields, content.picture, *where)

    def _descriptor(self, number: int) -> int:
        """Of an open file. Reads say where they are, so that processes can share one."""
        if number not in self._descriptors:
            while len(self._descriptors) >= _OPEN_FILES:
                os.close(self._descriptors.popitem(last=False)[1])
            with open_file(self.files[number].path) as file:
                self._descriptors[number] = os.dup(file.fileno())
        self._descriptors.move_to_end(number)
        return self._descriptors[number]

    def __del__(self):
        for descriptor in getattr(self, "_descriptors", {}).values():
            os.close(descriptor)


def _object(text: bytes, path: str, line: int) -> Dict[str, Any]:
    try:
        value = _DECODER.decode(text.removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise DataError(f"not valid JSON: {one_line(error)}", path, line) from None
    if not isinstance(value, dict):
        raise DataError("is no JSON object", path, line)
    return value


def _utf8(text: bytes, path: str, line: int) -> str:
    try:
        return text.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise DataError("its caption is not UTF-8", path, line) from None


def held_out(records: int, share: float, seed: Sequence[int]) -> List[np.ndarray]:
    """Which records train, and which are held out: int64, ascending.

    Raises:
        UserError: one of the two has none.
    """
    kept = round(records * share)
    if not 0 < kept < records:
        raise UserError(f"--held-out {share:g} of {records} records leaves nothing to train on or to validate on")
    order = np.random.default_rng(list(seed)).permutation(records)
    return [np.sort(order[kept:]), np.sort(order[:kept])]
