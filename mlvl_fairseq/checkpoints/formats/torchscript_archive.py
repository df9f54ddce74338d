"""Read the tensors of a TorchScript archive without executing any of it.

An archive (`torch.jit.save`; the files OpenAI publishes CLIP in) is a zip file: the pickled module tree in
``<name>/data.pkl``, raw storages in ``<name>/data/N``, code and constants beside them. `torch.jit.load` would compile
and attach the code. Here only the pickle and the storages are looked at, the pickle with an unpickler that knows
nothing but tensors and inert stand-ins for modules.
"""

import contextlib
import io
import math
import os
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Callable, Dict, Iterator, List, Mapping, Tuple

import torch

from mlvl_fairseq.checkpoints.nesting import TooDeep, require_shallow
from mlvl_fairseq.checkpoints.safe_loading import MAX_SHARING, SHARED_AT_LEAST
from mlvl_fairseq.errors import DataError

STORAGE_DTYPES = {
    "BFloat16Storage": torch.bfloat16,
    "BoolStorage": torch.bool,
    "ByteStorage": torch.uint8,
    "CharStorage": torch.int8,
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "ShortStorage": torch.int16,
}
# Tags that TorchScript puts around lists and dictionaries; each takes the value as its first argument.
CONTAINER_TAGS = {"build_boollist", "build_doublelist", "build_intlist", "build_tensorlist", "restore_type_tag"}
MAX_MODULES = 100_000  # ends the walk through an archive whose modules contain each other
MAX_NAME = 1000  # characters in the name of a tensor
_PUTS = {"PUT", "BINPUT", "LONG_BINPUT"}


class RefusedPickle(pickle.UnpicklingError):
    """The pickle asks for something that has no place in a module tree of tensors."""


class InertModule:
    """Stands for an instance of any TorchScript class: attributes and no behaviour."""

    attributes: Mapping[str, Any] = MappingProxyType({})

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise RefusedPickle(f"a module's state is a {type(state).__name__}")
        self.attributes = state


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies in the archive; its bytes are read when it is asked for."""

    key: str
    dtype: torch.dtype
    numel: int
    offset: int
    shape: Tuple[int, ...]
    stride: Tuple[int, ...]

    def __post_init__(self) -> None:
        numbers = (self.numel, self.offset, *self.shape, *self.stride)
        if not all(isinstance(number, int) and number >= 0 for number in numbers):
            raise RefusedPickle("a tensor's geometry is not made of natural numbers")
        if len(self.shape) != len(self.stride):
            raise RefusedPickle("a tensor has a shape and a stride of different lengths")
        last = self.offset + sum((size - 1) * step for size, step in zip(self.shape, self.stride))
        # More elements than the storage has are repeated ones: a small file could ask for any amount of memory.
        if 0 not in self.shape and (last >= self.numel or math.prod(self.shape) > self.numel):
            raise RefusedPickle("a tensor reaches beyond its storage")


class _TensorUnpickler(pickle.Unpickler):
    """Allow-lists tensors, ordered dictionaries, container tags and inert modules; everything else is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "__torch__":
            return InertModule
        if module == "torch" and name in STORAGE_DTYPES:
            return STORAGE_DTYPES[name]
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        # New functions on every call: a pickle can change attributes of what it is handed.
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, stride, *_: StoredTensor(*storage, offset, shape, stride)
        if module == "torch.jit._pickle" and name in CONTAINER_TAGS:
            return lambda value, *_: value
        raise RefusedPickle(f"it refers to {module}.{name}")

    def persistent_load(self, reference: Any) -> Tuple[str, torch.dtype, int]:
        kind, dtype, key, _device, numel = reference
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not str(key).isdigit():
            raise RefusedPickle("an unknown kind of reference")
        return key, dtype, numel


class TorchScriptArchive:
    """The tensors of a TorchScript archive by name, as the module's ``state_dict`` would name them.

    Tensors are read one at a time, so that converting them needs little more memory than their result.

    Args:
        path: the archive.

    Raises:
        DataError: the archive is damaged, or its pickle holds anything but modules and tensors ("refused").
    """

    def __init__(self, path):
        self.path = Path(path)
        with _errors_as_data_errors(self.path, "module tree"), zipfile.ZipFile(self.path) as archive:
            self._prefix = _find_prefix(archive.namelist())
            pickled = _read_entry(archive, f"{self._prefix}/data.pkl")
            _require_small_memo(pickled)
            require_shallow(io.BytesIO(pickled))
            root = _TensorUnpickler(io.BytesIO(pickled)).load()
            self._tensors = dict(_walk_modules(root))

    def names(self) -> List[str]:
        """Names of all tensors, attributes that are no parameters included."""
        return list(self._tensors)

    def load(self, names: List[str], convert: Callable[[torch.Tensor], torch.Tensor]) -> Dict[str, torch.Tensor]:
        """Read the named tensors and give the result of `convert` for each.

        Raises:
            DataError: together they are many times larger than the file.
        """
        size = sum(math.prod(stored.shape) * stored.dtype.itemsize for stored in map(self._tensors.get, names))
        if size > max(MAX_SHARING * self.path.stat().st_size, SHARED_AT_LEAST):
            raise DataError(f"refused: its tensors of {size:,} bytes repeat their numbers", self.path)
        with zipfile.ZipFile(self.path) as archive:
            return {name: convert(self._load_one(archive, name)) for name in names}

    def _load_one(self, archive: zipfile.ZipFile, name: str) -> torch.Tensor:
        stored = self._tensors[name]
        with _errors_as_data_errors(self.path, f"tensor '{name}'"):
            if 0 in stored.shape:
                return torch.empty(stored.shape, dtype=stored.dtype)
            content = _read_entry(archive, f"{self._prefix}/data/{stored.key}")
            if len(content) != stored.numel * stored.dtype.itemsize:
                raise RefusedPickle(f"its storage has {len(content)} bytes, not those of {stored.numel} elements")
            flat = torch.frombuffer(content, dtype=stored.dtype)
            return flat.as_strided(stored.shape, stored.stride, stored.offset)


@contextlib.contextmanager
def _errors_as_data_errors(path: Path, what: str) -> Iterator[None]:
    """Turn whatever a damaged or hostile archive provokes into a `DataError`; the system's own errors pass."""
    try:
        yield
    except (RefusedPickle, TooDeep) as error:
        raise DataError(f"refused: {error}; an archive of plain tensors has no need of it", path) from None
    except OSError:
        raise
    except Exception as error:
        raise DataError(f"the archive is truncated or damaged ({what}: {error}); fetch it again", path) from error


def _find_prefix(entries: List[str]) -> str:
    prefixes = [entry.split("/")[0] for entry in entries if entry.count("/") == 1 and entry.endswith("/data.pkl")]
    if len(prefixes) != 1:
        raise zipfile.BadZipFile(f"{len(prefixes)} entries called data.pkl")
    return prefixes[0]


def _read_entry(archive: zipfile.ZipFile, entry: str) -> bytearray:
    info = archive.getinfo(entry)
    # torch never compresses; so no entry is larger than the file, and nothing inflates beyond it.
    if info.compress_type != zipfile.ZIP_STORED:
        raise RefusedPickle(f"entry {entry} is compressed")
    if info.file_size > os.path.getsize(archive.filename):
        raise zipfile.BadZipFile(f"entry {entry} claims to be larger than the file")
    content = bytearray(info.file_size)
    with archive.open(info) as file:
        if file.readinto(content) != len(content):
            raise zipfile.BadZipFile(f"entry {entry} ends early")
    return content


def _require_small_memo(pickled: bytearray) -> None:
    """Python's unpickler makes room for all numbers up to that of an entry; no pickle has more entries than bytes."""
    for opcode, argument, _ in pickletools.genops(bytes(pickled)):
        if opcode.name in _PUTS and argument > len(pickled):
            raise RefusedPickle(f"entry {argument:,} of its memo")


def _walk_modules(root: Any) -> Iterator[Tuple[str, StoredTensor]]:
    """Yield every tensor attribute of a module tree with its dotted name."""
    pending = [("", root)]
    for _ in range(MAX_MODULES):
        if not pending:
            return
        prefix, module = pending.pop()
        if len(prefix) > MAX_NAME:
            raise RefusedPickle(f"a module of a name longer than {MAX_NAME} characters")
        if not isinstance(module, InertModule):
            raise RefusedPickle(f"the root is a {type(module).__name__}, not a module")
        for name, value in module.attributes.items():
            if isinstance(value, StoredTensor):
                yield f"{prefix}{name}", value
            elif isinstance(value, InertModule):
                pending.append((f"{prefix}{name}.", value))
    raise RefusedPickle(f"more than {MAX_MODULES} modules")
