"""Models whose matrix products are computed in bfloat16 where ``--autocast`` says so, and whose text towers are
compiled where ``--compile`` does."""

import logging
from typing import Any

import torch
from torch import Tensor

from mlvl_fairseq.modules.compiling import compile_positions
from mlvl_fairseq.modules.precision import bfloat16_products, cpu_instructions, in_bfloat16

logger = logging.getLogger(__name__)


class InAutocast:
    """Mixin in front of a fairseq model with :class:`AutocastOptions`, or :class:`ComputingOptions`: what `forward`
    gives is float32 whatever it is computed in, so that losses are, too."""

    built_with: Any = None
    _begun = False

    def forward(self, *args, **kwargs):
        weight = next(self.parameters())
        enabled = in_bfloat16(str(getattr(self.built_with, "autocast", "none")), weight)
        if not self._begun:
            self._begun = True
            self._begin(enabled, weight)
        with bfloat16_products(weight.device, enabled):
            found = super().forward(*args, **kwargs)
        return in_float32(found) if enabled else found

    def _begin(self, enabled: bool, weight: Tensor) -> None:
        """Before the first pass: compile what is to be compiled, and tell what is computed how."""
        if getattr(self.built_with, "compile", False):
            compile_positions(self)
            logger.info("--compile: blocks of text towers are compiled when they are first called, attention is not")
        own = cpu_instructions() if weight.device.type == "cpu" else ["those of the GPU"]
        if enabled and not own:
            logger.warning("--autocast bf16: this CPU has no instructions for bfloat16, float32 is faster here")
        elif enabled:
            logger.info("matrix products in bfloat16 (instructions: %s), all else in float32", ", ".join(own))
        elif own and weight.dtype == torch.float32 and weight.device.type == "cpu":
            logger.info("matrix products in float32; %s would be faster: --autocast bf16", ", ".join(own))


def in_float32(found: Any) -> Any:
    """Tensors in half precision made float32, also those in a dictionary."""
    if isinstance(found, dict):
        return {name: in_float32(value) for name, value in found.items()}
    return found.float() if isinstance(found, Tensor) and found.dtype == torch.bfloat16 else found
