"""Do tensors fit a module? Asked once, of every file; and modules that hold a file's very tensors."""

from typing import Callable, Iterable, Mapping, TypeVar

import torch
import torch.nn as nn
from torch.overrides import TorchFunctionMode

from mlvl_fairseq.errors import DataError

Module = TypeVar("Module", bound=nn.Module)


def without_values(make: Callable[..., Module], *args, **options) -> Module:
    """``make(*args, **options)`` on the meta device: names and shapes, no memory, no random numbers."""
    with torch.device("meta"), _NoInitialisation():
        return make(*args, **options)


class _NoInitialisation(TorchFunctionMode):
    """Skips `torch.nn.init`: drawing "random numbers" on the meta device imports torch's compiler, two seconds."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if getattr(function, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"]  # by name: so torch's own functions hand it over
        return function(*args, **(kwargs or {}))


def check_tensors(
    source, what: str, make: Callable[[], nn.Module], tensors: Mapping[str, torch.Tensor], ignore: Iterable[str] = ()
) -> None:
    """Compare the tensors of a file with what a module needs.

    Args:
        source: the file, for messages. what: name of the module, for messages.
        make: builds the module. tensors: by the names in its state dict. ignore: names that need not be there.

    Raises:
        DataError: the module does not exist in these dimensions; a tensor is missing, unknown or of another shape.
    """
    try:
        expected = without_values(make).state_dict()
    except (ArithmeticError, RuntimeError, TypeError, ValueError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"no {what.removeprefix('a ')} has these dimensions: {reason}", source) from None
    for name in expected.keys() - tensors.keys() - set(ignore):
        raise DataError("tensor is missing", source, field=name)
    for name in tensors.keys() - expected.keys():
        raise DataError(f"unknown tensor; {what} has none of this name", source, field=name)
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            message = f"tensor has shape {list(tensor.shape)}, expected {list(expected[name].shape)}"
            raise DataError(message, source, field=name)


def holding(make: Callable[[], Module], tensors: Mapping[str, torch.Tensor]) -> Module:
    """The module that `make` builds, with these very tensors (not copies); they fit, see :func:`check_tensors`. Buffers
    of whole numbers, which files are read as float32 with, become such again."""
    module = without_values(make)
    whole = {name: own.dtype for name, own in module.state_dict().items() if not own.is_floating_point()}
    module.load_state_dict({name: t.to(whole.get(name, t.dtype)) for name, t in tensors.items()}, assign=True)
    return module
