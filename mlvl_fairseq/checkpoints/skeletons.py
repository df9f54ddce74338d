"""Modules without values: names and shapes to compare a file with, and to be filled from it."""

from typing import Callable

import torch
import torch.nn as nn
from torch.overrides import TorchFunctionMode


def without_values(make: Callable[..., nn.Module], *args, **options) -> nn.Module:
    """``make(*args, **options)`` on the meta device: no memory, no random numbers."""
    with torch.device("meta"), _NoInitialisation():
        return make(*args, **options)


class _NoInitialisation(TorchFunctionMode):
    """Skips `torch.nn.init`: drawing "random numbers" on the meta device imports torch's compiler, two seconds."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if getattr(function, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return function(*args, **(kwargs or {}))
