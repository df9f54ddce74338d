"""BERT and XLM-R to start a text tower from: Hugging Face's folders, and for XLM-R fairseq's files, too."""

import logging
import re
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Iterable, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import nn

from mlvl_fairseq.checkpoints.check import check_tensors
from mlvl_fairseq.checkpoints.formats.xlmr import FairseqXlmr, XlmrWeights, read_xlmr
from mlvl_fairseq.checkpoints.huggingface import read_weights
from mlvl_fairseq.checkpoints.source import Tensors, WeightSource, as_float32, count_layers
from mlvl_fairseq.checkpoints.towers.base import register_tower_weights
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.json_files import Size, read_json
from mlvl_fairseq.modules.heads import LanguageModelHead
from mlvl_fairseq.modules.towers.bert import BertConfig, XlmrTowerConfig
from mlvl_fairseq.modules.towers.cclm_text import CclmTextConfig

logger = logging.getLogger(__name__)

CONFIG = "config.json"
WORDS, POSITIONS = "embeddings.word_embeddings.weight", "embeddings.position_embeddings.weight"
TYPES = "embeddings.token_type_embeddings.weight"
PARTS = ("embeddings.", "encoder.")  # of a tower; what a file has beside them is told and left out
ROBERTA = ("xlm-roberta", "roberta", "bert")
KINDS = {BertConfig: ("bert",), XlmrTowerConfig: ROBERTA, CclmTextConfig: ROBERTA}
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
# The head of masked tokens as fairseq, RoBERTa and BERT of Hugging Face call it; its part by our name.
HEAD = re.compile(r"(?:^|\.)(?:lm_head|cls\.predictions)\.(?P<part>.+)$")
HEAD_BIAS = "bias"
HEAD_PARTS = {
    f"{before}{module}.{old}": f"{ours}.{kind}"
    for before, module, ours in (
        ("", "dense", "dense"),
        ("", "layer_norm", "LayerNorm"),
        ("transform.", "dense", "dense"),
        ("transform.", "LayerNorm", "LayerNorm"),
    )
    for old, kind in (("weight", "weight"), ("bias", "bias"), ("gamma", "weight"), ("beta", "bias"))
}
HEAD_PARTS[HEAD_BIAS] = HEAD_BIAS
FAIRSEQ_FILE = "model.pt"
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
    said, tensors, others = _of_huggingface(source)
    _compare(said, config, said_in(source))
    _tell_left_out(others, source.path)
    return _as_tower(said, tensors, config, source.path)


@register_tower_weights(XlmrTowerConfig)
@register_tower_weights(CclmTextConfig)
def read_xlmr_tower(source: WeightSource, config: XlmrTowerConfig) -> Tensors:
    """What :func:`read_bert` takes, ``model.pt`` of fairseq or its folder, or a checkpoint of task mte_pretraining."""
    if is_huggingface(source):
        return read_bert(source, config)
    return _of_fairseq_file(source, read_xlmr(source.path), config)


@dataclass(frozen=True)
class TextStack:
    """A file of texts with all its layers.

    Attributes:
        tensors: in a tower's names, of all layers. layers: how many.
        head: of masked tokens, ``lm_head.`` and names in :class:`mlvl_fairseq.modules.heads.LanguageModelHead`; empty:
            none.
    """

    tensors: Tensors
    layers: int
    head: Tensors


def read_stack(source: WeightSource, config: BertConfig) -> TextStack:
    """What :func:`read_bert` or, for an XLM-R, :func:`read_xlmr_tower` takes, with any number of layers.

    Args:
        config: of a tower that is to have some of the layers.

    Raises:
        DataError: the file is missing, damaged, or of other dimensions.
    """
    path = source.path
    if is_huggingface(source) or KINDS[type(config)] != ROBERTA:
        said, tensors, others = _of_huggingface(source)
        config = replace(config, layers=count_layers(tensors, "encoder.layer.", path))
        _require(said.num_hidden_layers, config.layers, "layers", said_in(source), "num_hidden_layers")
        _compare(said, config, said_in(source))
        _tell_left_out((name for name in others if not HEAD.search(name)), path)
        tensors = _as_tower(said, tensors, config, path)
    else:
        file = WeightSource(path / FAIRSEQ_FILE) if path.is_dir() else source
        weights = FairseqXlmr().read(file)
        config = replace(config, layers=weights.config.layers)
        tensors = _of_fairseq_file(source, weights, config)
        model = {name: tensor for name, tensor in file.state["model"].items() if HEAD.search(str(name))}
        others = as_float32(model, path)
    check_tensors(path, "a text tower of these dimensions", config.build, tensors)
    return TextStack(tensors, config.layers, masked_token_head(others, config, path))


def masked_token_head(tensors: Tensors, config: BertConfig, path) -> Tensors:
    """The head of masked tokens among the tensors of a file, whoever named them; empty: it has none. Its last map is
    tied to the words and therefore not among them.

    Raises:
        DataError: a part of it is missing, or of another size.
    """
    found = {}
    for name, tensor in tensors.items():
        part = HEAD.search(name)
        if part and part["part"] in HEAD_PARTS:
            rows = part["part"] == HEAD_BIAS and tensor.dim() == 1 and len(tensor) <= config.vocab_size + SPARE_ROWS
            ours = f"lm_head.{HEAD_PARTS[part['part']]}"
            found[ours] = tensor[: config.vocab_size] if rows else tensor  # as the embedding is cut
    if found:
        check_tensors(path, "a head of masked tokens of these dimensions", partial(_new_head, config), found)
    return found


def _new_head(config: BertConfig) -> nn.Module:
    return nn.ModuleDict({"lm_head": LanguageModelHead(config.width, config.vocab_size, config.norm_eps)})


def is_huggingface(source: WeightSource) -> bool:
    """Whether it is a folder of Hugging Face's, or a file of such a folder."""
    folder = source.path.is_dir()
    return folder and (source.path / CONFIG).exists() or not folder and not source.state.get("model")


def said_in(source: WeightSource) -> Path:
    """``config.json`` of a folder, or beside a file."""
    return (source.path if source.path.is_dir() else source.path.parent) / CONFIG


def _of_huggingface(source: WeightSource) -> Tuple[_Said, Tensors, Tensors]:
    """What is said, the encoder's tensors, and the others."""
    missing = "a Hugging Face folder has it beside the weights"
    said = read_json(said_in(source), _Said, "fetch it again", missing, of_others=True)
    return (said, *_the_encoder(read_weights(source.path), source.path))


def _as_tower(said: _Said, tensors: Tensors, config: BertConfig, path) -> Tensors:
    """With positions, types and rows as a tower has them."""
    types = tensors.pop(TYPES, None)
    if said.model_type == "bert":  # its positions begin at 0, also over XLM-R's pieces as in multilingual-e5
        tensors = {name: _behind(config, table) if name == POSITIONS else table for name, table in tensors.items()}
    _use_token_types(tensors, types, config, path)
    return _fitted(tensors, config, path)


def _of_fairseq_file(source: WeightSource, weights: XlmrWeights, config: BertConfig) -> Tensors:
    for name in ("width", "layers", "heads", "ffn_width"):
        _require(getattr(weights.config, name), getattr(config, name), name, source.path)
    tensors = as_bert(weights.tensors)
    _use_token_types(tensors, None, config, source.path)
    return _fitted(tensors, config, source.path)


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


def _the_encoder(tensors: Tensors, path) -> Tuple[Tensors, Tensors]:
    """The tensors of embeddings and layers, without what stands before their names in classes with a head; and the
    others."""
    tensors = {str(name): tensor for name, tensor in tensors.items()}
    prefixes = [name.removesuffix(WORDS) for name in tensors if name.endswith(WORDS)]
    if len(prefixes) != 1:
        raise DataError(f"holds {len(prefixes) or 'no'} encoders of text (tensors '...{WORDS}')", path)
    found, others = {}, {}
    for name, tensor in tensors.items():
        own = name.removeprefix(prefixes[0])
        if name.startswith(prefixes[0]) and own.startswith(PARTS):
            module, _, kind = own.rpartition(".")
            found[f"{module}.{OLD_NAMES.get(kind, kind)}" if module.endswith("LayerNorm") else own] = tensor
        else:
            others[own] = tensor
    return found, others


def _tell_left_out(others: Iterable[str], path) -> None:
    counts = Counter(name.partition(".")[0] for name in others)
    if counts:
        left = ", ".join(f"{name} ({count} tensors)" for name, count in sorted(counts.items()))
        logger.info("%s: left out %s", path, left)


def _use_token_types(tensors: Tensors, types: Optional[torch.Tensor], config: BertConfig, path) -> None:
    """`types`: the file's; None: it has none, as fairseq's."""
    positions = tensors.get(POSITIONS)
    if types is None:
        if config.token_types == "keep" and positions is not None:
            logger.info("%s: has no token types: zeros", path)
            tensors[TYPES] = torch.zeros(1, *positions.shape[1:])
        return
    if config.token_types == "drop":
        logger.info("%s: its token types are dropped", path)
        return
    positions = tensors.get(POSITIONS)
    if types.dim() != 2 or not len(types) or positions is None or types.shape[1:] != positions.shape[1:]:
        raise DataError(f"tensor has shape {list(types.shape)}, which does not fit the positions", path, field=TYPES)
    if config.token_types == "keep":
        tensors[TYPES] = types[:1]
        return
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


def as_bert(tensors: Tensors) -> Tensors:
    """The tensors of an `XlmrEncoder` by BERT's names."""
    return {_of_fairseq(name): tensor for name, tensor in tensors.items()}


def _of_fairseq(name: str) -> str:
    """A name in `XlmrEncoder` as BERT has it."""
    module, _, kind = name.rpartition(".")
    layer = re.fullmatch(r"layers\.(\d+)\.(.+)", module)
    if layer and layer[2] in FAIRSEQ_LAYER:
        return f"encoder.layer.{layer[1]}.{FAIRSEQ_LAYER[layer[2]]}.{kind}"
    return f"{FAIRSEQ_OUTER.get(module, module)}.{kind}"
