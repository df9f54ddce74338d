"""What matrix products are computed in: float32, or bfloat16 where the processor has instructions for it."""

from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import ContextManager, List

import torch

from mlvl_fairseq.options import choice

CPU_INSTRUCTIONS = ("amx_bf16", "avx512_bf16", "sve_bf16", "bf16")  # those of x86, and of Arm
Autocast = choice("Autocast", "auto", "none", "bf16")


@dataclass
class AutocastOptions:
    """Option of every model."""

    autocast: Autocast = field(
        default=Autocast.auto,
        metadata={
            "help": "what the model's matrix products are computed in. bf16: bfloat16, less than half the time on CPUs "
            "with instructions for it (the log names them; without, several times as long). none: as the weights are. "
            "auto: bf16 on a GPU that has it, none on a CPU. Weights, the optimizer's state, norms, sums of gradients, "
            "temperature and loss stay in float32. Of no effect with --amp on a GPU, --fp16 or --bf16, which say it "
            "themselves; commands that evaluate compute in float32 whatever was trained"
        },
    )


def cpu_instructions() -> List[str]:
    """Those for bfloat16 that this CPU has; empty: none."""
    known = getattr(torch.cpu, "get_capabilities", dict)()
    return [name for name in CPU_INSTRUCTIONS if known.get(name)]


def takes_bfloat16(device: torch.device) -> bool:
    """Whether a GPU has instructions for bfloat16; of a CPU they are asked for by an option only."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def in_bfloat16(wanted: str, weight: torch.Tensor) -> bool:
    """Whether matrix products with this weight are to be computed in bfloat16 here.

    Args:
        wanted: the option, see :class:`AutocastOptions`. weight: of the model; where it is in half precision, or
            autocast is on, that has been decided elsewhere.
    """
    device = weight.device
    if weight.dtype != torch.float32 or torch.is_autocast_enabled(device.type):
        return False
    return wanted == Autocast.bf16 or (wanted == Autocast.auto and takes_bfloat16(device))


def bfloat16_products(device: torch.device, enabled: bool) -> ContextManager:
    """Within this context matrix products are computed in bfloat16, if that is `enabled`."""
    return torch.autocast(device.type, torch.bfloat16) if enabled else nullcontext()
