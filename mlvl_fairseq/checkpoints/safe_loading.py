"""Checkpoints load with torch's restricted unpickler, which since torch 2.6 refuses what fairseq's checkpoints hold.

The answer is a narrow allow-list, never ``weights_only=False``. On the list are the plain containers that fairseq
writes; their constructors and `__setstate__` store values and do nothing else.
"""

import importlib
import os
import pickle
import re
from typing import Any, Callable, Dict, List, Tuple, Union

from mlvl_fairseq.errors import DataError, UserError

_ALLOWED = (
    "argparse.Namespace",  # options of models without a dataclass; all options in checkpoints before 2020-11
    "collections.defaultdict",
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


class _NumpyType:
    """Reads a pickled numpy.dtype. numpy's own would take sizes and flags from the file on trust."""

    def __init__(self, name: str, align: bool = False, copy: bool = False):
        self.name = name

    def __setstate__(self, state: tuple) -> None:
        self.name = state[1] + self.name  # the byte order; the rest describes structured types

    def scalar(self, data: bytes):
        import numpy as np

        dtype = np.dtype(self.name)
        if dtype.kind not in "biuf":
            raise pickle.UnpicklingError(f"unsupported GLOBAL numpy.{dtype.type.__name__}")
        return np.frombuffer(data, dtype, count=1)[0]


def _numpy_scalar(dtype: _NumpyType, data: bytes):
    return dtype.scalar(data)


def allowed_globals() -> List[Union[Callable, Tuple[Callable, str]]]:
    """The allow-list in the form of ``torch.serialization.safe_globals``."""
    allowed: List[Union[Callable, Tuple[Callable, str]]] = []
    for path in _ALLOWED:
        module, _, name = path.rpartition(".")
        allowed.append((getattr(importlib.import_module(module), name), path))
    meters = [(value, path.replace("logging.", "")) for value, path in allowed if "meters" in path]  # their old place
    numpy = [(_numpy_scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    return allowed + meters + numpy + [(_NumpyType, "numpy.dtype")]


def load(file, map_location=None, **options) -> Any:
    """``torch.load`` with ``weights_only=True``, fairseq's allow-list and readable errors.

    Args:
        file: path or binary file.
        map_location: as in ``torch.load``; other options of ``torch.load`` are accepted and ignored.

    Raises:
        DataError: the file is damaged, is no checkpoint, or holds objects that are not on the allow-list.
            Nothing of such an object is executed.
        UserError: torch is older than 2.6, whose restricted unpickler can be escaped (CVE-2025-32434).
    """
    import torch

    if tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2]) < (2, 6):
        raise UserError(f"torch {torch.__version__} cannot load checkpoints safely: pip install 'torch>=2.6'")
    path = file if isinstance(file, (str, os.PathLike)) else getattr(file, "name", None)
    try:
        with torch.serialization.safe_globals(allowed_globals()):
            return torch.load(file, map_location=map_location, weights_only=True)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # a damaged pickle can fail in any way
        raise DataError(_what_is_wrong(error), path=path) from error


def _what_is_wrong(error: Exception) -> str:
    """One line out of torch's page, which recommends ``weights_only=False``."""
    message = str(error)
    refused = re.search(r"GLOBAL (\S+)", message)
    if refused:
        return (
            f"holds an object of type '{refused[1]}', which is not on the list of types that are safe to load; nothing "
            "was executed. Use a checkpoint with tensors and plain values only"
        )
    if "TorchScript" in message:
        return "is a TorchScript archive, which could run code, and not a checkpoint with tensors and plain values"
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
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", path=path) from error
    if not isinstance(state, dict):
        raise DataError(f"is not a checkpoint: it holds one {type(state).__name__}", path=path)
    return state
