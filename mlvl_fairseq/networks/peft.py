"""Parameter-efficient training of a network with towers (Khan and Fu 2023, LilT): presets say what is added to the
towers and what trains, as ordered rules on the parts that the towers name."""

import random
from dataclasses import dataclass, field
from typing import Callable, Dict, List, Sequence

from torch import nn

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.modules.adapters.lora import LoraOptions
from mlvl_fairseq.modules.low_rank import PATTERN, insert_lora
from mlvl_fairseq.networks.base import Network
from mlvl_fairseq.networks.freezing import Rule
from mlvl_fairseq.networks.presets import SIDES, Preset, list_presets, preset

# Queries and values of BERT, XLM-R, CLIP and ViT; the latter two have them in one matrix with the keys.
LORA_TARGETS = r"(query|value|q_proj|v_proj|qkv|in_proj)(\.|_)weight$"


@dataclass
class PeftOptions:
    """What every model with towers offers; see also :class:`LoraOptions`."""

    preset: str = field(
        default="full",
        metadata={
            "help": f"what trains, and what is added to the towers for it: {', '.join(list_presets())}; for one tower "
            "..._image or ..._text; several joined by +, as in lwa+ln",
            "argparse_alias": "--peft",  # mlvl-cll has a --preset of its own
        },
    )
    adapter_reduction: int = field(
        default=4, metadata={"help": "layerwise adapters (lwa): the tower's width divided by the bottleneck's"}
    )
    lora_targets: str = field(
        default=LORA_TARGETS,
        metadata={"help": "lora: regular expression of the names of the weights that get an update"},
    )
    always_freeze_image: str = field(
        default="", metadata={"help": "blocks of the image tower that stay as they are, e.g. 0,1,2"}
    )
    always_freeze_text: str = field(
        default="", metadata={"help": "blocks of the text tower that stay as they are, e.g. 0,1,2"}
    )


def _insert_adapters(tower: nn.Module, options) -> None:
    if not 1 <= options.adapter_reduction <= tower.width:
        raise UserError(f"--adapter-reduction {options.adapter_reduction} is not between 1 and the width {tower.width}")
    tower.insert_adapters(options.adapter_reduction)


def _insert_lora(tower: nn.Module, options) -> None:
    insert_lora(tower, options.lora_targets, options.lora_rank, options.lora_alpha)


# In this order: an appended block gets adapters and updates, too.
ADDITIONS: Dict[str, Callable[[nn.Module, PeftOptions], None]] = {
    "block": lambda tower, options: tower.append_block(),
    "adapter": _insert_adapters,
    "lora": _insert_lora,
}


def add_parts(network: Network, options) -> int:
    """Add to the towers what ``--preset`` adds.

    Args:
        options: :class:`PeftOptions` and :class:`LoraOptions`, or anything with their fields.

    Returns:
        number of parameters that were added.

    Raises:
        UserError: there is no such preset, or a tower has no place for it.
    """
    before = sum(parameter.numel() for parameter in network.parameters())
    wanted = preset(options.preset).adds
    for kind, add in ADDITIONS.items():
        for side, module in network.sides.items():
            if (side, kind) in wanted:
                try:
                    add(network.get_submodule(module), options)
                except UserError as error:
                    other = SIDES[1 - SIDES.index(side)]
                    raise UserError(f"--preset {options.preset}: {error}; there is ..._{other}") from None
    return sum(parameter.numel() for parameter in network.parameters()) - before


def rules_of_preset(network: Network, options, seed: int = 0) -> List[Rule]:
    """What trains with ``--preset``, in the order of the published flags: towers are frozen, parts of them unlocked,
    projections and whole blocks frozen.

    Args:
        network: with what :func:`add_parts` adds. options: see there. seed: draws the layers of ``unlock_random``; all
            ranks have to give the same.

    Raises:
        UserError: a tower has no such part, or no such block.
    """
    wanted, rules = preset(options.preset), []
    for side in SIDES:
        module = network.sides.get(side)
        tower = module and network.get_submodule(module)
        if tower is None or not any(True for _ in tower.parameters()):
            continue
        parts = wanted.parts(side)
        if "" not in parts:
            rules.append(Rule(False, ".", module))
        rules += [Rule(True, _pattern(tower, part, options, side, seed), module) for part in parts if part]
    if wanted.keeps_heads:
        rules.append(Rule(False, network.heads))
    for side in SIDES:
        rules += _always_frozen(network, side, getattr(options, f"always_freeze_{side}"))
    return rules


def _pattern(tower: nn.Module, part: str, options, side: str, seed: int) -> str:
    if part == "lora":
        return PATTERN
    if part == "random":
        return _drawn_layers(tower, random.Random(f"{seed} {side}"))
    pattern = getattr(tower.parts, part)
    if pattern is None:
        other = SIDES[1 - SIDES.index(side)]
        raise UserError(f"--preset {options.preset}: the {side} tower has no {part}; there is ..._{other}")
    return pattern


def _drawn_layers(tower: nn.Module, draw: random.Random) -> str:
    """The parameters of one linear layer of each block. The published code draws from some of them only."""
    names, number = [], 0
    linear = [name for name, module in tower.named_modules() if type(module) is nn.Linear and "adapter" not in name]
    while tower.parts.block is not None:
        own = [name for name in linear if Rule(True, tower.parts.block.format(number)).find([f"{name}.weight"])]
        if not own:
            break
        names.append(draw.choice(own))
        number += 1
    if not names:
        raise UserError(f"--preset unlock_random: a {type(tower).__name__} has no blocks")
    return "^(" + "|".join(name.replace(".", r"\.") for name in names) + r")\.(weight|bias)$"


def _always_frozen(network: Network, side: str, text: str) -> Sequence[Rule]:
    option, module = f"--always-freeze-{side} {text}", network.sides.get(side)
    blocks = [word.strip() for word in text.split(",") if word.strip()]
    if any(not block.isdecimal() for block in blocks):
        raise UserError(f"{option}: give numbers of blocks, as in 0,1,2")
    rules = []
    for block in blocks:
        tower = network.get_submodule(module)
        names = [name for name, _ in tower.named_parameters()]
        pattern = tower.parts.block and tower.parts.block.format(int(block))
        if pattern is None or not Rule(False, pattern).find(names):
            raise UserError(f"{option}: the {side} tower has no block {block}")
        rules.append(Rule(False, pattern, module))
    return rules


__all__ = ["LoraOptions", "PeftOptions", "Preset", "add_parts", "rules_of_preset"]
