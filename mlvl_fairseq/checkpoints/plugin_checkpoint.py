"""Checkpoints that this plugin trained with fairseq, read without building a task or a model.

Such a file holds ``model`` (the state dict: ``text.*``, ``adapter.*``, ``vision.*``, ``logit_scale``,
``language_state.*``, ``continual.*``), ``cfg`` (fairseq's configuration) and ``task_state`` (vocabulary, languages),
all as plain containers. What training kept frozen is not in it: it is read again from ``cfg["model"]["init_from"]``,
and its fingerprint is checked.
"""

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List, Mapping, Optional

import torch

from mlvl_fairseq.checkpoints.source import (
    CLIPWeights,
    Tensors,
    WeightFormat,
    WeightSource,
    as_float32,
    fingerprint,
    fingerprint_of,
    read_clip_weights,
    register_weight_format,
    take_prefix,
)
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.modules.adapters import TextAdapter, TowerShape, build_adapter
from mlvl_fairseq.modules.expandable_embedding import apply_idle_decay

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PluginState:
    """What a checkpoint of this plugin says about its model.

    Attributes:
        weights: both towers, frozen parts included.
        head: tensors of the head on given image features; empty where there is none.
        vocabulary: tokens and merges that were added to CLIP's.
        languages: the languages learned in sequence; empty for other tasks.
        adapter: what languages add to the text tower, in evaluation mode; None: nothing.
    """

    weights: CLIPWeights
    head: Tensors
    vocabulary: Dict[str, List[str]]
    languages: List[str]
    adapter: Optional[TextAdapter] = None

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the weights, and of adapter and its options if there is one."""
        if self.adapter is None:
            return self.weights.fingerprint
        basis = f"{self.weights.fingerprint} {self.adapter.name} {asdict(self.adapter.options)}"
        return fingerprint({"basis": torch.tensor(list(basis.encode())), **self.adapter.state_dict()})


@register_weight_format("checkpoint trained with this plugin")
class PluginCheckpoint(WeightFormat):
    def detect(self, source: WeightSource) -> bool:
        return {"model", "cfg"} <= source.state.keys()

    def read(self, source: WeightSource) -> CLIPWeights:
        state = _read(source)
        if state.adapter is not None:
            logger.warning("%s: its towers are read without the adapters of its languages", source.path)
        return state.weights


def is_plugin_checkpoint(path) -> bool:
    """Whether `path` is a checkpoint that this plugin trained. Raises DataError: it is missing, damaged or refused."""
    return PluginCheckpoint().detect(WeightSource(path))


def read_plugin_state(path, init_from=None) -> PluginState:
    """Read a checkpoint that ``fairseq-train`` wrote.

    Args:
        path: the checkpoint.
        init_from: where its frozen weights are now; None: where they were when it was trained.

    Raises:
        DataError: a file is missing, truncated, refused for its content, or was written by something else.
        UserError: the frozen weights are not those it was trained with.
    """
    return _read(WeightSource(path), init_from)


def _read(source: WeightSource, init_from=None) -> PluginState:
    content = _check(source.state, source.path)
    options = content["cfg"].get("model") or {}
    model = dict(content["model"])
    apply_idle_decay(model, "text.token_embedding.")
    tensors = as_float32({k: v for k, v in model.items() if _is_weight(k)}, source.path)
    text, vision = take_prefix(tensors, "text."), take_prefix(tensors, "vision.")
    frozen = _read_frozen(options, source, init_from)
    if frozen is not None:
        _check_frozen(content["model"], frozen.weights, source.path)
        text, vision = {**frozen.weights.text, **text}, {**(frozen.weights.vision or frozen.head), **vision}
    is_tower = "conv1.weight" in vision
    weights = CLIPWeights.from_tensors(
        source.path,
        text,
        vision if is_tower else {},
        tensors.get("logit_scale"),
        options.get("text_heads"),
        options.get("vision_heads"),
    )
    task_state = content.get("task_state") or {}
    vocabulary = task_state.get("vocabulary") or {"tokens": [], "merges": []}
    languages = list(task_state.get("languages") or [])
    adapter = _read_adapter(options, as_float32(take_prefix(model, "adapter."), source.path), weights, languages)
    return PluginState(weights, {} if is_tower else vision, vocabulary, languages, adapter)


def _read_adapter(
    options: Mapping[str, Any], tensors: Tensors, weights: CLIPWeights, languages
) -> Optional[TextAdapter]:
    name = options.get("adapter") or "none"
    if name == "none":
        return None
    text = weights.text_config
    shape = TowerShape(text.width, text.layers, text.embed_dim)
    try:
        adapter = build_adapter(name, SimpleNamespace(**options), shape, languages)
        adapter.check(tensors, "")
    except UserError as error:
        raise DataError(f"holds another adapter than its options say: {error}", weights.source) from None
    adapter.load_state_dict(tensors)
    return adapter.eval()


def _is_weight(name: str) -> bool:
    return name.startswith(("text.", "vision.")) or name == "logit_scale"


def _check(content: Mapping[str, Any], path) -> Mapping[str, Any]:
    for key in ("model", "cfg"):
        if not isinstance(content.get(key), Mapping):
            raise DataError("is missing or no dictionary; give a checkpoint trained with this plugin", path, field=key)
    return content


def _read_frozen(options: Mapping[str, Any], source: WeightSource, init_from) -> Optional[PluginState]:
    """The weights a checkpoint started from; a head among them when they come from this plugin, too."""
    origin = init_from or options.get("init_from")
    if not origin:
        return None
    if not Path(origin).exists():
        raise UserError(
            f"{source.path} needs the frozen weights it was trained with, and {origin} is not there: "
            "say where they are with --init-from"
        )
    if source.path.samefile(origin):
        raise DataError("names itself as the origin of its frozen weights", source.path, field="cfg.model.init_from")
    if is_plugin_checkpoint(origin):
        return read_plugin_state(origin)
    return PluginState(read_clip_weights(origin), {}, {}, [])


def _check_frozen(state: Mapping[str, Any], frozen: CLIPWeights, path) -> None:
    """Raises UserError: the weights at hand are not those the checkpoint was trained with."""
    if "frozen_fingerprint" not in state:
        return
    towers = {f"text.{name}": tensor for name, tensor in frozen.text.items()}
    if "logit_scale" in state:  # the model had an image side
        towers.update({f"vision.{name}": tensor for name, tensor in frozen.vision.items()})
    digest = fingerprint({name: tensor for name, tensor in towers.items() if name not in state})
    if digest != fingerprint_of(state["frozen_fingerprint"]):
        raise UserError(f"{frozen.source} does not hold the frozen weights that {path} was trained with")
