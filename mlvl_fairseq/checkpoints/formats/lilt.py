"""Checkpoints of LilT's published code (Khan and Fu 2023), ``checkpoint_14.pth``: tensors under ``model``, and under
``config`` the whole configuration, an object of OmegaConf. Nothing in them is executed.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Type

from mlvl_fairseq.checkpoints.lilt_config import LiltConfig, plain_values
from mlvl_fairseq.checkpoints.source import Tensors, WeightSource, as_float32, count_layers, take_prefix
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.json_files import checked
from mlvl_fairseq.modules.towers.bert import BertConfig
from mlvl_fairseq.modules.towers.deit3 import DeiT3Config
from mlvl_fairseq.modules.towers.vit import ViTConfig

SIDES = {"image": "visual_encoder.", "text": "text_encoder."}
BUFFER = "text_encoder.embeddings.position_ids"  # 0, 1, 2, ...
ADAPTER = ".down_sampler.weight"
WORDS, POSITIONS = "embeddings.word_embeddings.weight", "embeddings.position_embeddings.weight"


@dataclass(frozen=True)
class FoundTower:
    """What the tensors of a tower show.

    Attributes:
        kind: config of the towers that have such tensors. dimensions: by the names of its fields.
        bottleneck: dimensions of its adapters; None: it has none.
    """

    kind: Type[Any]
    dimensions: Mapping[str, int]
    bottleneck: Optional[int]


@dataclass(frozen=True)
class LiltFile:
    """A checkpoint.

    Attributes:
        tensors: in float32, by their names, which are those of our network.
        config: what it says. epoch: counted from 0; None: not known.
        image, text: what the towers are.
        source: the file.
    """

    tensors: Tensors
    config: LiltConfig
    epoch: Optional[int]
    image: FoundTower
    text: FoundTower
    source: Path


def read_lilt(path) -> LiltFile:
    """Read a checkpoint.

    Raises:
        DataError: the file is missing, damaged, refused for its content, or of another layout.
    """
    content = WeightSource(path).state
    if not isinstance(content.get("model"), Mapping):
        raise DataError("is missing or no dictionary; give a checkpoint_NN.pth of LilT", path, field="model")
    tensors = as_float32(checked(content["model"], Dict[str, Any], path, "model"), path)
    tensors.pop(BUFFER, None)
    config = checked(plain_values(content.get("config") or {}, path), LiltConfig, path, "config")
    epoch = content.get("epoch")
    return LiltFile(
        tensors=tensors,
        config=config,
        epoch=epoch if isinstance(epoch, int) else None,
        image=_found_vit(take_prefix(tensors, SIDES["image"]), path),
        text=_found_bert(take_prefix(tensors, SIDES["text"]), path),
        source=Path(path),
    )


def _found_vit(tensors: Tensors, path) -> FoundTower:
    table = _matrix(tensors, "pos_embed", path, SIDES["image"], dimensions=3)
    patch = _matrix(tensors, "patch_embed.proj.weight", path, SIDES["image"], dimensions=4)
    kind = DeiT3Config if "blocks.0.gamma_1" in tensors else ViTConfig
    leading = 0 if kind is DeiT3Config else 1  # the class token's position
    grid = math.isqrt(max(table.shape[1] - leading, 0))
    if not grid or grid**2 + leading != table.shape[1]:
        message = f"tensor has shape {list(table.shape)}, which is no square of patches"
        raise DataError(message, path, field=f"{SIDES['image']}pos_embed")
    dimensions = {
        "image_size": grid * patch.shape[-1],
        "patch_size": patch.shape[-1],
        "width": table.shape[2],
        "layers": count_layers(tensors, "blocks.", path),
    }
    return FoundTower(kind, dimensions, _bottleneck(tensors, path, SIDES["image"]))


def _found_bert(tensors: Tensors, path) -> FoundTower:
    words = _matrix(tensors, WORDS, path, SIDES["text"])
    dimensions = {
        "vocab_size": words.shape[0],
        "width": words.shape[1],
        "layers": count_layers(tensors, "encoder.layer.", path),
        "ffn_width": len(_matrix(tensors, "encoder.layer.0.intermediate.dense.weight", path, SIDES["text"])),
        "max_positions": len(_matrix(tensors, POSITIONS, path, SIDES["text"])),
    }
    return FoundTower(BertConfig, dimensions, _bottleneck(tensors, path, SIDES["text"]))


def _bottleneck(tensors: Tensors, path, prefix: str) -> Optional[int]:
    adapters = sorted(name for name in tensors if "adapter" in name)
    weights = [name for name in adapters if name.endswith(ADAPTER)]
    if adapters and not weights:
        raise DataError(f"is of an adapter without {ADAPTER.strip('.')}", path, field=prefix + adapters[0])
    return len(_matrix(tensors, weights[0], path, prefix)) if weights else None


def _matrix(tensors: Tensors, name: str, path, prefix: str, dimensions: int = 2):
    """A tensor that has to be there. Raises DataError: it is not, or has other dimensions, or none of some."""
    if name not in tensors:
        raise DataError("tensor is missing; this is no checkpoint of LilT", path, field=prefix + name)
    tensor = tensors[name]
    if tensor.dim() != dimensions or not tensor.numel():
        raise DataError(
            f"tensor has shape {list(tensor.shape)}, expected {dimensions} dimensions", path, field=prefix + name
        )
    return tensor
