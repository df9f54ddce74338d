"""torch's optimizers import its compiler at their first use, in order to keep it away from what they do, torchvision
imports it for a function that we do not call: more than a second of each start. They do so once somebody else has
imported it, or calls that function; until then nothing is compiled.

Breaks without it: ``mlvl-cll``, of which every language starts later.
"""

import sys
from types import ModuleType
from typing import Callable, ContextManager

from mlvl_fairseq.fairseq_patches.patching import around_import, left_for_later, patches

COMPILER = "torch._dynamo"
_KNOWN = "__dynamo_disable"  # where torch._compile looks for what it has made of a function


@around_import("torchvision.ops.roi_align")
def leave_the_compiler_of_regions_for_later() -> ContextManager[None]:
    return left_for_later(f"{COMPILER}.utils")


@patches("torch.optim.optimizer")
def leave_the_compiler_for_later(module) -> None:
    for guarded in filter(_is_guarded, vars(module.Optimizer).values()):
        setattr(guarded.__wrapped__, _KNOWN, _uncompiled(guarded))


def _is_guarded(value) -> bool:
    code, compiler = getattr(value, "__code__", None), sys.modules.get("torch._compile")
    is_wrapper = code is not None and isinstance(compiler, ModuleType) and code.co_filename == compiler.__file__
    return is_wrapper and hasattr(value, "__wrapped__") and not hasattr(value.__wrapped__, _KNOWN)


def _uncompiled(guarded: Callable) -> Callable:
    function = guarded.__wrapped__

    def call(*args, **kwargs):
        if COMPILER not in sys.modules:
            return function(*args, **kwargs)
        if getattr(function, _KNOWN, None) is call:
            delattr(function, _KNOWN)
        return guarded(*args, **kwargs)

    return call
