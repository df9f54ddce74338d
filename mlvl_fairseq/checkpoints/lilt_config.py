"""The configuration of LilT's published code (Khan and Fu 2023), an object of OmegaConf or single keys, and what it is in
our options. Needs no torch."""

from dataclasses import dataclass
from typing import Any, List, Literal, Mapping, Optional, Union

from mlvl_fairseq.errors import DataError
from mlvl_fairseq.json_files import MAX_DEPTH, Count, Size

# Field of the configuration -> the published name -> our tower; the others are `vit_...` and `bert_...`.
PUBLISHED = {"image": ("vision_encoder", "vit_", {"large": "deit3_large"}), "text": ("text_encoder", "bert_", {})}
ONE_TOWER = {"vision_only": "_image", "language_only": "_text"}
UNLOCKED = {  # flag -> preset
    "unlock_layernorm": "ln",
    "unlock_dense": "unlock_dense",
    "unlock_attn": "unlock_attn",
    "unlock_random": "unlock_random",
    "bitfit": "bitfit",
}
FROZEN = {(False, False): "full", (True, False): "lit", (False, True): "full_image", (True, True): "proj"}
Towers = Union[bool, Literal["vision_only", "language_only"]]


@dataclass
class Adapters:
    """``conventional_adapter`` of the configuration."""

    insert: Towers = False
    reduction_factor: Optional[Size] = None


@dataclass
class Blocks:
    """``always_freeze``: numbers of blocks."""

    visual_encoder: Optional[List[Count]] = None
    text_encoder: Optional[List[Count]] = None


@dataclass
class LiltConfig:
    """What the configuration says, under the published names, as far as it matters; None: it does not say it."""

    image_res: Optional[Size] = None
    embed_dim: Optional[Size] = None
    vision_encoder: Optional[str] = None
    text_encoder: Optional[str] = None
    pretrained_text: bool = True
    freeze_vision_encoder: Optional[bool] = None
    freeze_text_encoder: Optional[bool] = None
    freeze_proj: bool = False
    unlock_layernorm: Towers = False
    unlock_dense: bool = False
    unlock_attn: bool = False
    unlock_random: bool = False
    bitfit: Towers = False
    add_adapter: bool = False
    adapter_append: Optional[bool] = None
    conventional_adapter: Optional[Adapters] = None
    always_freeze: Optional[Blocks] = None


def plain_values(node: Any, path, depth: int = 0) -> Any:
    """What a configuration of OmegaConf holds, as plain containers; references to other values stay the texts they are.

    Raises:
        DataError: it is nested too deeply.
    """
    if depth > MAX_DEPTH:
        raise DataError("is nested too deeply", path, field="config")
    inner = getattr(node, "__dict__", {})  # without the attributes that OmegaConf's own classes make up
    value = next((inner[name] for name in ("_content", "_val") if name in inner), node)
    if isinstance(value, Mapping):
        return {key: plain_values(one, path, depth + 1) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_values(one, path, depth + 1) for one in value]
    return value


def published_tower(side: str, name: str) -> str:
    """Our name of a tower by the published one, which need not be there."""
    _, prefix, others = PUBLISHED[side]
    return others.get(name, prefix + name)


def preset_name(config: LiltConfig, adapted: List[str], appended: List[str]) -> str:
    """The preset that the published flags are; where they are not known, one that trains all.

    Args:
        adapted, appended: sides that have adapters, an appended block.
    """
    rest = [side for side in PUBLISHED if side not in appended]
    words = _of_sides("lwa", adapted)
    if config.add_adapter:
        words += _of_sides("da", appended) + _of_sides("unlock_last", rest)
    else:
        words += _of_sides("append", appended)
    for flag, name in UNLOCKED.items():
        value = getattr(config, flag)
        words += [name + ONE_TOWER.get(str(value), "")] if value else []
    frozen = FROZEN[bool(config.freeze_vision_encoder), bool(config.freeze_text_encoder)]
    words = words if words and frozen == "proj" else [frozen, *words]
    return "+".join([*words, "no_proj"] if config.freeze_proj else words)


def _of_sides(name: str, sides: List[str]) -> List[str]:
    return [name] if len(sides) == len(PUBLISHED) else [f"{name}_{side}" for side in sides]
