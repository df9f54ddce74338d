"""What blocks of text towers do to each position by itself, made one program by torch's compiler (``torch.compile``).

Attention is left out: it is called by groups of texts that no two batches have alike. What is compiled takes any number
of positions, and serves all blocks that do the same.
"""

from dataclasses import dataclass, field
from functools import cache, wraps
from typing import Callable

import torch
from torch import Tensor, nn

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.modules.precision import AutocastOptions

BACKEND = "inductor"  # of torch.compile


@dataclass
class ComputingOptions(AutocastOptions):
    """Options of every model with a text tower."""

    compile: bool = field(
        default=False,
        metadata={
            "help": "let torch compile what blocks of text towers and projectors do to each token by itself, for any "
            "number of tokens, when they are first called, which takes seconds: to Triton's kernels on a GPU, to C++ "
            "on a CPU, where there has to be a compiler, and little is gained. Results differ by rounding; checkpoints "
            "are the same; commands that evaluate do not compile"
        },
    )


class Compilable:
    """Mixin of modules with methods that are :func:`per_position`.

    Attributes:
        is_compiled: whether these are compiled.
    """

    is_compiled = False


def per_position(method: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Decorator of a method of a :class:`Compilable`, which is compiled where its last argument is [N, width], of texts
    that are packed; not where it is [B, T, width], of images, or of a graph that is exported.

    Raises:
        UserError: it cannot be compiled here.
    """

    @wraps(method)
    def call(module: Compilable, *args) -> Tensor:
        if not module.is_compiled or args[-1].dim() != 2:
            return method(module, *args)
        try:
            return _compiled(method, BACKEND)(module, *args)
        except torch._dynamo.exc.BackendCompilerFailed as error:
            reason = str(error.inner_exception).splitlines()[0]
            raise UserError(f"--compile: torch cannot compile here: {reason}") from None

    return call


@cache
def _compiled(method: Callable[..., Tensor], backend: str) -> Callable[..., Tensor]:
    return torch.compile(method, dynamic=True, backend=backend)


def compile_positions(module: nn.Module) -> None:
    """Let all parts of a module that can be compiled be so, from their next call on."""
    for part in module.modules():
        if isinstance(part, Compilable):
            part.is_compiled = True
