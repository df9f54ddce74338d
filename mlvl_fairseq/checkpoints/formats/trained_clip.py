"""CLIPs that this plugin trained with fairseq, read without building a task or a model.

Such a file holds ``model`` (the state dict: ``text.*``, ``adapter.*``, ``vision.*``, ``logit_scale``,
``language_state.*``, ``continual.*``), ``cfg`` (fairseq's configuration) and ``task_state`` (vocabulary, languages),
all as plain containers. What training kept frozen is not in it: it is read again from ``cfg["model"]["init_from"]``,
and its fingerprint is checked.
"""

from operator import index
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, Mapping, Optional, Tuple

from mlvl_fairseq.checkpoints.clip import ClipCheckpoint, CLIPWeights, read_clip
from mlvl_fairseq.checkpoints.source import (
    Tensors,
    WeightFormat,
    WeightSource,
    add_prefix,
    as_float32,
    fill_in,
    register_weight_format,
    take_prefix,
)
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.modules.adapters import TextAdapter, TowerShape, build_adapter
from mlvl_fairseq.modules.expandable_embedding import apply_idle_decay

SIDES = ("text.", "vision.")


@register_weight_format("clip", "checkpoint of a CLIP trained with this plugin")
class TrainedClip(WeightFormat):
    is_ours = True

    def detect(self, source: WeightSource) -> bool:
        return any(name.startswith(SIDES) for name in source.model())

    def read(self, source: WeightSource, init_from=None) -> ClipCheckpoint:
        options = source.state["cfg"].get("model") or {}
        state = dict(source.model())
        apply_idle_decay(state, "text.token_embedding.")
        tensors = {name: value for name, value in state.items() if name.startswith(SIDES) or name == "logit_scale"}
        tensors = as_float32(tensors, source.path)
        origin = _read_origin(options, source, init_from)
        if origin is not None:
            tensors = _with_frozen(tensors, state, origin, options, source)
        vision = take_prefix(tensors, "vision.")
        is_tower = "conv1.weight" in vision
        weights = CLIPWeights.from_tensors(
            source.path,
            take_prefix(tensors, "text."),
            vision if is_tower else {},
            tensors.get("logit_scale"),
            options.get("text_heads"),
            options.get("vision_heads"),
        )
        task_state = source.state.get("task_state") or {}
        languages = list(task_state.get("languages") or [])
        return ClipCheckpoint(
            weights,
            head={} if is_tower else vision,
            vocabulary=task_state.get("vocabulary") or {"tokens": [], "merges": []},
            languages=languages,
            adapter=_read_adapter(options, as_float32(take_prefix(state, "adapter."), source.path), weights, languages),
            segmentation=_read_segmentation(task_state.get("segmentation") or {}, source),
        )


def _read_segmentation(found: Any, source: WeightSource) -> Dict[str, Tuple[int, int]]:
    """Numbers of tokens and merges by language; which there are, the vocabulary says."""
    try:
        pairs = {str(lang): (index(tokens), index(merges)) for lang, (tokens, merges) in found.items()}
    except (AttributeError, TypeError, ValueError):
        pairs = {"": (-1, -1)}
    if any(tokens <= 0 or merges < 0 for tokens, merges in pairs.values()):
        raise DataError("is no pair of numbers for each language", source.path, field="task_state.segmentation")
    return pairs


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


def _read_origin(options: Mapping[str, Any], source: WeightSource, init_from) -> Optional[ClipCheckpoint]:
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
    return read_clip(origin)


def _with_frozen(
    tensors: Tensors, state: Mapping[str, Any], origin: ClipCheckpoint, options: Mapping[str, Any], source: WeightSource
) -> Tensors:
    """The tensors of both sides: those of the checkpoint, the others from where they were taken.

    Raises:
        UserError: the weights at hand are not those the checkpoint was trained with.
    """
    weights, has_images = origin.weights, "logit_scale" in state
    has_head = has_images and options.get("image_tower") == "features"
    text = add_prefix(weights.text, "text.")
    vision = add_prefix(origin.head if has_head else weights.vision or origin.head, "vision.")
    if "frozen_fingerprint" in state:
        sides = {**text, **vision} if has_images else text
        frozen = {name: tensor for name, tensor in sides.items() if name not in state}
        complaint = f"{weights.source} does not hold the frozen weights that {source.path} was trained with"
        tensors = fill_in(tensors, frozen, state["frozen_fingerprint"], complaint)
    return {**text, **vision, **tensors}
