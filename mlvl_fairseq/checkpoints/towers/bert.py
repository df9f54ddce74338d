"""BERT and XLM-R to start a text tower from: Hugging Face's folders, and for XLM-R fairseq's files, too."""

import logging
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import torch
import torch.nn.functional as F

from mlvl_fairseq.checkpoints.formats.xlmr import read_xlmr
from mlvl_fairseq.checkpoints.huggingface import read_weights
from mlvl_fairseq.checkpoints.source import Tensors, WeightSource
from mlvl_fairseq.checkpoints.towers.base import register_tower_weights
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.json_files import Size, read_json
from mlvl_fairseq.modules.towers.bert import BertConfig, XlmrTowerConfig

logger = logging.getLogger(__name__)

CONFIG = "config.json"
WORDS, POSITIONS = "embeddings.word_embeddings.weight", "embeddings.position_embeddings.weight"
TYPES = "embeddings.token_type_embeddings.weight"
PARTS = ("embeddings.", "encoder.")  # of a tower; what a file has beside them is told and left out
KINDS = {BertConfig: ("bert",), XlmrTowerConfig: ("xlm-roberta", "roberta", "bert")}
SPARE_ROWS = 127  # tables are padded to multiples of 8, 64 or 128 rows
OLD_NAMES = {"gamma": "weight", "beta": "bias"}  # of layer normalisation in files of 2018 and 2019
FAIRSEQ_LAYER = {
    "self_attn.q_proj": "attention.self.query",
    "self_attn.k_proj": "attention.self.key",
    "self_attn.v_proj": "attention.self.value",
    "self_attn.out_proj": "attention.output.dense",
    "self_attn_layer_norm": "attention.output.LayerNorm",
    "fc1": "intermediate.dense",
    "fc2": "output.dense",
    "final_layer_norm": "output.LayerNorm",
}
FAIRSEQ_OUTER = {
    "embed_tokens": "embeddings.word_embeddings",
    "embed_positions": "embeddings.position_embeddings",
    "layernorm_embedding": "embeddings.LayerNorm",
}


@dataclass
class _Said:
    """``config.json``, as far as it matters."""

    hidden_size: Size
    num_hidden_layers: Size
    num_attention_heads: Size
    intermediate_size: Size
    model_type: str = "bert"
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-12
    position_embedding_type: Optional[str] = "absolute"


@register_tower_weights(BertConfig)
def read_bert(source: WeightSource, config: BertConfig) -> Tensors:
    """A folder with ``config.json`` and the weights, or such a file of weights; in any class of `transformers` that has
    a BERT in it. The pooler and heads are left out; row 0 of the token types goes into the positions, or is dropped."""
    folder = source.path if source.path.is_dir() else source.path.parent
    missing = "a Hugging Face folder has it beside the weights"
    said = read_json(folder / CONFIG, _Said, "fetch it again", missing, of_others=True)
    _compare(said, config, folder / CONFIG)
    tensors = _the_encoder(read_weights(source.path), source.path)
    types = tensors.pop(TYPES, None)
    if said.model_type == "bert":  # its positions begin at 0, also over XLM-R's pieces as in multilingual-e5
        tensors = {name: _behind(config, table) if name == POSITIONS else table for name, table in tensors.items()}
    if types is not None:
        _use_token_types(tensors, types, config, source.path)
    return _fitted(tensors, config, source.path)


@register_tower_weights(XlmrTowerConfig)
def read_xlmr_tower(source: WeightSource, config: XlmrTowerConfig) -> Tensors:
    """What :func:`read_bert` takes, ``model.pt`` of fairseq or its folder, or a checkpoint of task mte_pretraining."""
    path = source.path
    if path.is_dir() and (path / CONFIG).exists() or not path.is_dir() and not source.state.get("model"):
        return read_bert(source, config)
    weights = read_xlmr(path)
    for name in ("width", "layers", "heads", "ffn_width"):
        _require(getattr(weights.config, name), getattr(config, name), name, path)
    return _fitted({_of_fairseq(name): tensor for name, tensor in weights.tensors.items()}, config, path)


def _behind(config: BertConfig, table: torch.Tensor) -> torch.Tensor:
    """A table of positions with the empty rows in front that a tower's may have."""
    return F.pad(table, (0, 0, config.first_position, 0)) if table.dim() == 2 else table


def _compare(said: _Said, config: BertConfig, path: Path) -> None:
    """Raises DataError: the weights are for another tower."""
    kinds = KINDS[type(config)]
    if said.model_type not in kinds:
        raise DataError(
            f"is '{said.model_type}', not {' or '.join(kinds)}; choose another --text-tower", path, field="model_type"
        )
    if said.hidden_act != "gelu" or said.position_embedding_type not in (None, "absolute"):
        field = "hidden_act" if said.hidden_act != "gelu" else "position_embedding_type"
        raise DataError(f"is '{getattr(said, field)}', which text towers here do not have", path, field=field)
    for field, name in (
        ("hidden_size", "width"),
        ("num_hidden_layers", "layers"),
        ("num_attention_heads", "heads"),
        ("intermediate_size", "ffn_width"),
    ):
        _require(getattr(said, field), getattr(config, name), name, path, field)
    if said.layer_norm_eps != config.norm_eps:
        logger.warning("%s: layer_norm_eps is %g; the tower has %g", path, said.layer_norm_eps, config.norm_eps)


def _require(found: int, wanted: int, name: str, path, field: Optional[str] = None) -> None:
    if found != wanted:
        where = f"give --text-{name.replace('_', '-')} {found}, or another --text-tower"
        raise DataError(f"these weights have {name} {found}, the text tower {wanted}: {where}", path, field=field)


def _the_encoder(tensors: Tensors, path) -> Tensors:
    """The tensors of embeddings and layers, without what stands before their names in classes with a head."""
    tensors = {str(name): tensor for name, tensor in tensors.items()}
    prefixes = [name.removesuffix(WORDS) for name in tensors if name.endswith(WORDS)]
    if len(prefixes) != 1:
        raise DataError(f"holds {len(prefixes) or 'no'} encoders of text (tensors '...{WORDS}')", path)
    found, others = {}, Counter()
    for name, tensor in tensors.items():
        own = name.removeprefix(prefixes[0])
        if name.startswith(prefixes[0]) and own.startswith(PARTS):
            module, _, kind = own.rpartition(".")
            found[f"{module}.{OLD_NAMES.get(kind, kind)}" if module.endswith("LayerNorm") else own] = tensor
        else:
            others[own.partition(".")[0]] += 1
    if others:
        left = ", ".join(f"{name} ({count} tensors)" for name, count in sorted(others.items()))
        logger.info("%s: left out %s", path, left)
    return found


def _use_token_types(tensors: Tensors, types: torch.Tensor, config: BertConfig, path) -> None:
    if config.token_types == "drop":
        logger.info("%s: its token types are dropped", path)
        return
    positions = tensors.get(POSITIONS)
    if types.dim() != 2 or not len(types) or positions is None or types.shape[1:] != positions.shape[1:]:
        raise DataError(f"tensor has shape {list(types.shape)}, which does not fit the positions", path, field=TYPES)
    tensors[POSITIONS] = positions + types[0]
    logger.info("%s: row 0 of its token types is added to the positions", path)


def _fitted(tensors: Tensors, config: BertConfig, path) -> Tensors:
    """With as many rows as the tower has: words beyond a dictionary that only pad the table, and positions, are cut."""
    for name, rows, spare in ((WORDS, config.vocab_size, SPARE_ROWS), (POSITIONS, config.position_rows, None)):
        table = tensors.get(name)
        if table is None or table.dim() != 2:
            continue  # which is an error that :func:`check_tensors` names
        if len(table) < rows or spare is not None and len(table) > rows + spare:
            what = f"{rows} tokens: give the tokenizer it was trained with" if name == WORDS else f"{rows} positions"
            raise DataError(f"has {len(table)} rows for {what}", path, field=name)
        if len(table) > rows:
            logger.info("%s: %s: the first %d of %d rows are used", path, name, rows, len(table))
        tensors[name] = table[:rows].contiguous()
    return tensors


def _of_fairseq(name: str) -> str:
    """A name in `XlmrEncoder` as BERT has it."""
    module, _, kind = name.rpartition(".")
    layer = re.fullmatch(r"layers\.(\d+)\.(.+)", module)
    if layer and layer[2] in FAIRSEQ_LAYER:
        return f"encoder.layer.{layer[1]}.{FAIRSEQ_LAYER[layer[2]]}.{kind}"
    return f"{FAIRSEQ_OUTER.get(module, module)}.{kind}"
