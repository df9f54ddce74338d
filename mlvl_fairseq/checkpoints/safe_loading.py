"""Checkpoints load with torch's restricted unpickler, which since torch 2.6 refuses what fairseq's checkpoints hold.

The answer is a narrow allow-list, never ``weights_only=False``. On the list are the plain containers that fairseq
writes; their constructors and `__setstate__` store values and do nothing else. torch's own list is narrowed to dense
tensors: what makes an array of any size from a number (``bytearray(10**12)``), or stands for a tensor without numbers,
is in no checkpoint of ours.
"""

import contextlib
import functools
import importlib
import io
import os
import pickle
import re
import zipfile
from typing import Any, Callable, Dict, Iterator, List, Tuple, Union

from mlvl_fairseq.checkpoints.archive import verify_archive
from mlvl_fairseq.checkpoints.nesting import require_shallow
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.files import open_file

_ALLOWED = (
    "argparse.Namespace",  # options of models without a dataclass; all options in checkpoints before 2020-11
    "builtins.dict",
    "builtins.int",
    "builtins.list",
    "typing.Any",
    "omegaconf.base.ContainerMetadata",  # options as OmegaConf objects: 2020-11 to 2021-10, or sent to other ranks
    "omegaconf.base.Metadata",
    "omegaconf.dictconfig.DictConfig",
    "omegaconf.listconfig.ListConfig",
    "omegaconf.nodes.AnyNode",
    "fairseq.data.dictionary.Dictionary",  # state of tasks that keep their dictionary, such as HuBERT's
    "fairseq.distributed.utils._TensorPlaceholder",  # sent to other ranks
    "fairseq.logging.meters.AverageMeter",  # training statistics in checkpoints before 2019-12
    "fairseq.logging.meters.StopwatchMeter",
    "fairseq.logging.meters.TimeMeter",
)


# Of torch's own list, beside its types of numbers and storages.
_ALLOWED_OF_TORCH = {
    "collections.OrderedDict",
    "builtins.set",
    "torch.Size",
    "torch.device",
    "torch.nn.parameter.Parameter",
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_tensor_v3",
}
# What the tensors of a file may hold together, in sizes of the file: they may share storage, as tied embeddings do.
LEGACY_PICKLES = 5  # before 1.6: a constant, a version, sizes of numbers, the content, keys of storages
MAX_SHARING = 8
SHARED_AT_LEAST = 64 << 20  # bytes


class _NumpyType:
    """Reads a pickled numpy.dtype. numpy's own would take sizes and flags from the file on trust."""

    def __init__(self, name: str, align: bool = False, copy: bool = False):
        self.name = name

    def __setstate__(self, state: tuple) -> None:
        if state[1] not in ("<", ">", "=", "|"):  # the byte order; the rest describes structured types
            raise pickle.UnpicklingError("a numpy.dtype has no byte order")
        self.name = state[1] + self.name

    def scalar(self, data: bytes):
        import numpy as np

        dtype = np.dtype(self.name)
        if dtype.kind not in "biuf":
            raise pickle.UnpicklingError(f"unsupported GLOBAL numpy.{dtype.type.__name__}")
        return np.frombuffer(data, dtype, count=1)[0]


def _numpy_scalar(dtype: _NumpyType, data: bytes):
    return dtype.scalar(data)


def _plain_dictionary(factory: Any = None) -> Dict[Any, Any]:
    """What a collections.defaultdict is read as: torch fills no other kind of dictionary. OmegaConf keeps in one what
    its resolvers gave, as the time of a run of Hydra's."""
    return {}


def _latin1(text: str, encoding: str) -> bytes:
    """What pickles of bytes call; `codecs.encode` knows encodings that double a text."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"unsupported GLOBAL _codecs.encode with {encoding}")
    return text.encode("latin1")


def allowed_globals() -> List[Union[Callable, Tuple[Callable, str]]]:
    """The allow-list in the form of ``torch.serialization.safe_globals``."""
    allowed: List[Union[Callable, Tuple[Callable, str]]] = []
    for path in _ALLOWED:
        module, _, name = path.rpartition(".")
        allowed.append((getattr(importlib.import_module(module), name), path))
    meters = [(value, path.replace("logging.", "")) for value, path in allowed if "meters" in path]  # their old place
    numpy = [(_numpy_scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    others = [(_plain_dictionary, "collections.defaultdict"), (_latin1, "_codecs.encode")]
    return allowed + meters + numpy + [(_NumpyType, "numpy.dtype"), *others]


@functools.lru_cache(maxsize=1)
def allowed_globals_of_torch() -> Dict[str, Any]:
    """What is left of torch's own list: name -> value."""
    import torch

    storages = set(torch._storage_classes) | {torch.storage.TypedStorage, torch.storage.UntypedStorage}
    types = {f"{kind.__module__}.{kind.__name__}" for kind in storages}
    own = torch._weights_only_unpickler._get_allowed_globals()
    return {
        name: value
        for name, value in own.items()
        if name in types or name in _ALLOWED_OF_TORCH or isinstance(value, torch.dtype)
    }


@contextlib.contextmanager
def _narrow_lists() -> Iterator[None]:
    """torch has a way to add to its list, and none to take from it."""
    import torch

    allowed, unpickler = allowed_globals_of_torch(), torch._weights_only_unpickler
    own = unpickler._get_allowed_globals
    with torch.serialization.safe_globals(allowed_globals()):
        unpickler._get_allowed_globals = lambda: allowed
        try:
            yield
        finally:
            unpickler._get_allowed_globals = own


def load(file, map_location=None, **options) -> Any:
    """``torch.load`` with ``weights_only=True``, fairseq's allow-list, checksums compared, and readable errors.
    A file that keeps what has changed since another one is put together with it.

    Args:
        file: path or binary file that can be read anywhere.
        map_location: as in ``torch.load``; other options of ``torch.load`` are accepted and ignored.

    Raises:
        DataError: the file is damaged, is no checkpoint, or holds objects that are not on the allow-list.
            Nothing of such an object is executed.
        UserError: torch is older than 2.6, whose restricted unpickler can be escaped (CVE-2025-32434).
    """
    if isinstance(file, (str, os.PathLike)):
        with open_file(file) as opened:
            return load(opened, map_location)
    content = _load_alone(file, map_location)
    from mlvl_fairseq.checkpoints.changes import put_together  # imports torch

    return put_together(content, getattr(file, "name", None), functools.partial(_load_alone, map_location=map_location))


def _load_alone(file, map_location=None) -> Any:
    """What an open file holds, be it changes since another one. Raises as :func:`load` does."""
    import torch

    if tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2]) < (2, 6):
        raise UserError(f"torch {torch.__version__} cannot load checkpoints safely: pip install 'torch>=2.6'")
    path = getattr(file, "name", None)
    verify_archive(file, path)
    try:
        _require_shallow_pickles(file)
        with _narrow_lists():
            content = torch.load(file, map_location=map_location, weights_only=True)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # a damaged pickle can fail in any way
        raise DataError(_what_is_wrong(error), path=path) from error
    _require_bounded(content, file.seek(0, os.SEEK_END), path)
    return content


def _require_shallow_pickles(file) -> None:
    """Raises TooDeep: see :mod:`mlvl_fairseq.checkpoints.nesting`. The file's position is kept."""
    start = file.tell()
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            for entry in archive.namelist():
                if entry.endswith("/data.pkl"):
                    require_shallow(io.BytesIO(archive.read(entry)))
    else:
        file.seek(start)
        for _ in range(LEGACY_PICKLES):
            require_shallow(file)
    file.seek(start)


def _require_bounded(content: Any, size: int, path) -> None:
    """Raises DataError: tensors repeat a few numbers so often that copies of them would need any amount of memory."""
    import torch

    pending, seen, total = [content], set(), 0
    while pending:
        value = pending.pop()
        if isinstance(value, torch.Tensor):
            total += value.numel() * value.element_size()
        elif isinstance(value, (dict, list, tuple)) and id(value) not in seen:
            seen.add(id(value))
            pending.extend(value.values() if isinstance(value, dict) else value)
    if total > max(MAX_SHARING * size, SHARED_AT_LEAST):
        raise DataError(f"holds tensors of {total:,} bytes in {size:,}: they repeat their numbers", path)


def _what_is_wrong(error: Exception) -> str:
    """One line out of torch's page, which recommends ``weights_only=False``."""
    message = str(error)
    refused = re.search(r"GLOBAL (\S+)", message)
    if refused:
        return (
            f"holds an object of type '{refused[1]}', which is not on the list of types that are safe to load; nothing "
            "was executed. Use a checkpoint with tensors and plain values only"
        )
    reason = message.partition("WeightsUnpickler error:")[2].strip() or message or type(error).__name__
    first_sentence = re.split(r"[.] |\n", reason)[0]
    return f"is truncated, damaged, or not a checkpoint ({first_sentence}); restore it from a good copy"


def load_checkpoint_file(path, map_location="cpu") -> Dict[str, Any]:
    """The content of a checkpoint written by fairseq, as it is in the file.

    Raises:
        DataError: the file cannot be read, is damaged, holds unsafe objects, or is no dictionary.
    """
    try:
        state = load(path, map_location)
    except (OSError, MemoryError) as error:
        raise DataError(f"cannot be read: {getattr(error, 'strerror', None) or error}", path=path) from error
    if not isinstance(state, dict):
        raise DataError(f"is not a checkpoint: it holds one {type(state).__name__}", path=path)
    return state
