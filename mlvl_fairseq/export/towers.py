"""Towers as models of `transformers`: configuration and tensors by its names. A kind of tower is one function here."""

from functools import singledispatch
from typing import Any, Dict, NamedTuple, Optional

import torch
from torch import Tensor, nn

from mlvl_fairseq.checkpoints.formats.huggingface_clip import text_options, to_their_names, vision_options
from mlvl_fairseq.checkpoints.source import Tensors
from mlvl_fairseq.modules.adapters.layerwise import LayerwiseAdapter
from mlvl_fairseq.modules.towers.bert import BertTower, XlmrTower
from mlvl_fairseq.modules.towers.clip_text import CLIPTextTower, TextConfig
from mlvl_fairseq.modules.towers.clip_vision import CLIPVisionTower, VisionConfig
from mlvl_fairseq.modules.towers.deit3 import DeiT3Tower
from mlvl_fairseq.modules.towers.vit import EPS, MLP_RATIO, ViTTower
from mlvl_fairseq.modules.transformer import ACTIVATIONS

POOLED = "pooler_output"  # what `transformers` calls the state that stands for the whole
VIT_BLOCK = {
    "attn.proj": "attention.output.dense",
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}
DINO_BLOCK = {name: name for name in ("norm1", "norm2", "mlp.fc1", "mlp.fc2")}
DINO_BLOCK["attn.proj"] = "attention.output.dense"


class StockTower(NamedTuple):
    """A tower as a model of `transformers`.

    Attributes:
        config: what ``config.json`` says. tensors: what ``model.safetensors`` holds.
        pooling: of sentence-transformers, which makes a vector of its states; None: the model gives the vector itself.
    """

    config: Dict[str, Any]
    tensors: Tensors
    pooling: Optional[str]


def stock_tower(tower: nn.Module) -> Optional[StockTower]:
    """A tower for `transformers`; None: it has no such model, or has layerwise adapters, for which none has a place."""
    if has_adapters(tower):
        return None
    with torch.no_grad():
        return _stock(tower)


def has_adapters(tower: nn.Module) -> bool:
    """Whether there are layerwise adapters in a tower."""
    return any(isinstance(module, LayerwiseAdapter) for module in tower.modules())


@singledispatch
def _stock(tower: nn.Module) -> Optional[StockTower]:
    return None


@_stock.register
def _clip_text(tower: CLIPTextTower) -> StockTower:
    blocks, tensors = tower.transformer.resblocks, dict(tower.state_dict())
    rows, width = tensors["token_embedding.weight"].shape
    config = TextConfig(
        rows,
        width,
        len(blocks),
        blocks[0].attn.heads,
        None,
        tower.context_length,
        blocks[0].mlp.c_fc.out_features,
        activation_of(blocks[0]),
    )
    options = {"architectures": ["CLIPTextModel"], **text_options(config)}
    return StockTower(options, to_their_names("text", tensors, len(blocks)), None)


@_stock.register
def _clip_vision(tower: CLIPVisionTower) -> StockTower:
    blocks, tensors = tower.transformer.resblocks, dict(tower.state_dict())
    tensors.pop("proj", None)
    config = VisionConfig(
        tower.image_size,
        tower.conv1.kernel_size[0],
        tower.width,
        len(blocks),
        blocks[0].attn.heads,
        None,
        blocks[0].mlp.c_fc.out_features,
        activation_of(blocks[0]),
    )
    options = {"architectures": ["CLIPVisionModel"], **vision_options(config)}
    return StockTower(options, to_their_names("vision", tensors, len(blocks)), None)


def activation_of(block: nn.Module) -> str:
    """The name of what a block of CLIP's applies inside of its feed-forward half."""
    return next(name for name, kind in ACTIVATIONS.items() if isinstance(block.mlp.gelu, kind))


@_stock.register
def _bert(tower: BertTower) -> StockTower:
    own, tensors = tower.config, dict(tower.state_dict())
    kind, model = ("xlm-roberta", "XLMRobertaModel") if isinstance(tower, XlmrTower) else ("bert", "BertModel")
    tensors.setdefault("embeddings.token_type_embeddings.weight", torch.zeros(1, own.width))
    config = {
        "model_type": kind,
        "architectures": [model],
        "vocab_size": len(tensors["embeddings.word_embeddings.weight"]),
        "hidden_size": own.width,
        "num_hidden_layers": len(tower.encoder.layer),
        "num_attention_heads": own.heads,
        "intermediate_size": own.ffn_width,
        "max_position_embeddings": own.position_rows,
        "type_vocab_size": 1,
        "layer_norm_eps": own.norm_eps,
        "hidden_act": "gelu",
        "pad_token_id": own.pad,
    }
    return StockTower(config, {**tensors, **_unused_pooler(own.width)}, own.pooling)


@_stock.register
def _vit(tower: ViTTower) -> StockTower:
    tensors = _vit_tensors(tower, VIT_BLOCK)
    config = {"model_type": "vit", "architectures": ["ViTModel"], "intermediate_size": MLP_RATIO * tower.width}
    tensors.update(_unused_pooler(tower.width))
    return StockTower({**config, **_vit_options(tower)}, tensors, "cls")


@_stock.register
def _deit3(tower: DeiT3Tower) -> StockTower:
    """DINOv2's model has scaled branches, too; its class token gets a position of zeros."""
    tensors = _vit_tensors(tower, DINO_BLOCK)
    positions = tensors["embeddings.position_embeddings"]
    tensors["embeddings.position_embeddings"] = torch.cat([positions.new_zeros(1, 1, tower.width), positions], 1)
    tensors["embeddings.mask_token"] = positions.new_zeros(1, tower.width)
    for number, block in enumerate(tower.blocks):
        for name, scale in (("layer_scale1", block.gamma_1), ("layer_scale2", block.gamma_2)):
            tensors[f"encoder.layer.{number}.{name}.lambda1"] = scale.detach()
    config = {"model_type": "dinov2", "architectures": ["Dinov2Model"], "mlp_ratio": MLP_RATIO}
    return StockTower({**config, **_vit_options(tower)}, tensors, "cls")


def _vit_options(tower: ViTTower) -> Dict[str, Any]:
    return {
        "hidden_size": tower.width,
        "num_hidden_layers": len(tower.blocks),
        "num_attention_heads": tower.config.heads,
        "image_size": tower.image_size,
        "patch_size": tower.config.patch_size,
        "layer_norm_eps": EPS,
        "hidden_act": "gelu",
        "qkv_bias": True,
    }


def _vit_tensors(tower: ViTTower, block_names: Dict[str, str]) -> Tensors:
    own = tower.state_dict()
    found = {
        "embeddings.cls_token": own["cls_token"],
        "embeddings.position_embeddings": own["pos_embed"],
        "embeddings.patch_embeddings.projection.weight": own["patch_embed.proj.weight"],
        "embeddings.patch_embeddings.projection.bias": own["patch_embed.proj.bias"],
        "layernorm.weight": own["norm.weight"],
        "layernorm.bias": own["norm.bias"],
    }
    for number in range(len(tower.blocks)):
        ours, theirs = f"blocks.{number}", f"encoder.layer.{number}"
        for kind in ("weight", "bias"):
            parts: Dict[str, Tensor] = dict(zip(("query", "key", "value"), own[f"{ours}.attn.qkv.{kind}"].chunk(3)))
            found.update({f"{theirs}.attention.attention.{name}.{kind}": part for name, part in parts.items()})
            found.update({f"{theirs}.{new}.{kind}": own[f"{ours}.{old}.{kind}"] for old, new in block_names.items()})
    return found


def _unused_pooler(width: int) -> Tensors:
    """`transformers` builds one and would draw it: what it gives is not read."""
    return {"pooler.dense.weight": torch.zeros(width, width), "pooler.dense.bias": torch.zeros(width)}
