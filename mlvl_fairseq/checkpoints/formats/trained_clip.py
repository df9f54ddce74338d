"""CLIPs that this plugin trained with fairseq, read without building a task or a model.

Such a file holds ``model`` (the state dict: ``text.*``, ``adapter.*``, ``vision.*``, ``logit_scale``,
``language_state.*``, ``continual.*``), ``cfg`` (fairseq's configuration) and ``task_state`` (vocabulary, languages),
all as plain containers. What training kept frozen is not in it: it is read again from ``cfg["model"]["init_from"]``,
and its fingerprint is checked.
"""

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Dict, List, Mapping, Optional, Tuple, Union

import torch
from msgspec import UNSET, Meta, UnsetType

from mlvl_fairseq.checkpoints.archive import save_checkpoint
from mlvl_fairseq.checkpoints.clip import QUICK_GELU, ClipCheckpoint, CLIPWeights, the_activation
from mlvl_fairseq.checkpoints.source import (
    Tensors,
    WeightFormat,
    WeightSource,
    add_prefix,
    as_float32,
    fill_in,
    format_of,
    read_fingerprint,
    register_weight_format,
    take_prefix,
)
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.json_files import Size, checked
from mlvl_fairseq.modules.adapters import ADAPTERS, TextAdapter, TowerShape, build_adapter
from mlvl_fairseq.modules.expandable_embedding import apply_idle_decay

SIDES = ("text.", "vision.")
Merge = Annotated[str, Meta(pattern="^[^ ]+ [^ ]+$")]


@dataclass
class _Options:
    init_from: Optional[str] = None
    text_heads: Optional[Size] = None
    vision_heads: Optional[Size] = None
    image_tower: Optional[str] = None
    adapter: Optional[str] = None
    activation: Union[str, None, UnsetType] = UNSET


@dataclass
class _Cfg:
    model: Optional[_Options] = None


@dataclass
class _Vocabulary:
    tokens: List[str] = field(default_factory=list)
    merges: List[Merge] = field(default_factory=list)


@dataclass
class _TaskState:
    vocabulary: Optional[_Vocabulary] = None
    languages: Optional[List[str]] = None
    segmentation: Optional[Dict[str, Tuple[Size, Size]]] = None


@dataclass
class _Content:
    """What such a file holds beside tensors, as far as it is read here."""

    cfg: _Cfg
    task_state: Optional[_TaskState] = None


@register_weight_format("clip", "checkpoint of a CLIP trained with this plugin")
class TrainedClip(WeightFormat):
    is_ours = True

    def detect(self, source: WeightSource) -> bool:
        return any(name.startswith(SIDES) for name in source.model())

    def read(self, source: WeightSource, init_from=None, activation=None) -> ClipCheckpoint:
        content = source.read(_Content)
        options, task_state = content.cfg.model or _Options(), content.task_state or _TaskState()
        state = dict(source.model())
        _decay_idle_rows(state, source)
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
            options.text_heads,
            options.vision_heads,
            the_activation(_known_activation(options, origin), activation, source.path),
        )
        languages = task_state.languages or []
        tensors = as_float32(take_prefix(state, "adapter."), source.path)
        return ClipCheckpoint(
            weights,
            head={} if is_tower else vision,
            vocabulary=asdict(task_state.vocabulary or _Vocabulary()),
            languages=languages,
            adapter=_read_adapter(options.adapter or "none", tensors, weights, languages, source),
            segmentation=task_state.segmentation or {},
        )


def _known_activation(options: "_Options", origin: Optional[ClipCheckpoint]) -> str:
    if options.activation is UNSET:  # an earlier version: it knew no other
        return QUICK_GELU
    return options.activation or (QUICK_GELU if origin is None else origin.weights.text_config.activation)


def _decay_idle_rows(state: Dict[str, Any], source: WeightSource) -> None:
    try:
        apply_idle_decay(state, "text.token_embedding.")
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
        message = "do not fit the embedding; restore the file from a good copy"
        raise DataError(message, source.path, field="text.token_embedding.trained_rows") from None


def _read_adapter(
    name: str, tensors: Tensors, weights: CLIPWeights, languages: List[str], source: WeightSource
) -> Optional[TextAdapter]:
    if name == "none":
        return None
    text = weights.text_config
    shape = TowerShape(text.width, text.layers, text.embed_dim)
    largest = max((tensor.numel() for tensor in tensors.values()), default=0)
    try:
        adapter = build_adapter(name, _adapter_options(name, source, largest), shape, languages)
        adapter.check(tensors, "")
    except (UserError, RuntimeError) as error:
        raise DataError(f"holds another adapter than its options say: {error}", weights.source) from None
    adapter.load_state_dict(tensors)
    return adapter.eval()


def _adapter_options(name: str, source: WeightSource, largest: int) -> SimpleNamespace:
    """Options as they are in the file, of the right types. Nothing is built that the file's tensors could not fill."""
    given = source.state["cfg"]["model"]
    names = [option.name for option in fields(ADAPTERS[name].options_type)] if name in ADAPTERS else []
    options = {key: given[key] for key in names if key in given}
    if names:
        checked(options, ADAPTERS[name].options_type, source.path, "cfg.model")
    for key, value in options.items():
        if isinstance(value, int) and value > largest:
            raise UserError(f"{key} is {value}")
    return SimpleNamespace(**options)


def _read_origin(options: "_Options", source: WeightSource, init_from) -> Optional[ClipCheckpoint]:
    """The weights a checkpoint started from; a head among them when they come from this plugin, too."""
    origin = init_from or options.init_from
    if not origin:
        return None
    if not Path(origin).exists():
        raise UserError(
            f"{source.path} needs the frozen weights it was trained with, and {origin} is not there: "
            "say where they are with --init-from"
        )
    origin = source.origin(origin)
    return format_of(origin, "clip").read(
        origin, activation=QUICK_GELU if options.activation is UNSET else options.activation
    )


def _with_frozen(
    tensors: Tensors, state: Mapping[str, Any], origin: ClipCheckpoint, options: "_Options", source: WeightSource
) -> Tensors:
    """The tensors of both sides: those of the checkpoint, the others from where they were taken.

    Raises:
        UserError: the weights at hand are not those the checkpoint was trained with.
    """
    weights, has_images = origin.weights, "logit_scale" in state
    has_head = has_images and options.image_tower == "features"
    text = add_prefix(weights.text, "text.")
    vision = add_prefix(origin.head if has_head else weights.vision or origin.head, "vision.")
    expected = read_fingerprint(state, "frozen_fingerprint", source.path)
    if expected is not None:
        sides = {**text, **vision} if has_images else text
        frozen = {name: tensor for name, tensor in sides.items() if name not in state}
        complaint = f"{weights.source} does not hold the frozen weights that {source.path} was trained with"
        tensors = fill_in(tensors, frozen, expected, complaint)
    return {**text, **vision, **tensors}


def write_whole_clip(source: WeightSource, path, init_from=None, activation=None) -> None:
    """Write a CLIP of any format as a checkpoint that needs no other file. One of ours keeps its place in a sequence
    and the memory of its method, so that the next language can be learned from it, without ``--init-from``.

    Args:
        source: of the CLIP. init_from, activation: see :meth:`WeightFormat.read`.

    Raises:
        DataError: the file is damaged, or `path` cannot be written. UserError: see :meth:`TrainedClip.read`.
    """
    form = format_of(source, "clip")
    clip = form.read(source, init_from=init_from, activation=activation)
    weights, is_ours = clip.weights, isinstance(form, TrainedClip)
    state = {name: value for name, value in source.model().items() if name != "frozen_fingerprint"} if is_ours else {}
    _decay_idle_rows(state, source)
    given = dict(source.state["cfg"]["model"]) if is_ours else {"_name": "clip"}
    towers = {**add_prefix(weights.text, "text."), **add_prefix(weights.vision or clip.head, "vision.")}
    has_images = bool(weights.vision or clip.head) and weights.logit_scale is not None
    scale = {"logit_scale": torch.tensor(weights.logit_scale)} if has_images else {}
    known = {
        "init_from": None,
        "text_heads": weights.text_config.heads,
        "activation": weights.text_config.activation,
        "image_tower": "features" if clip.head else "vit",
        **({"vision_heads": weights.vision_config.heads} if weights.vision_config else {}),
    }
    task = {"vocabulary": clip.vocabulary, "languages": clip.languages}
    if clip.segmentation:
        task["segmentation"] = clip.segmentation
    beside = {name: value for name, value in source.state.items() if name != "last_optimizer_state"} if is_ours else {}
    content = {
        **beside,
        "cfg": {**beside.get("cfg", {}), "model": {**given, **known}},
        "model": {**state, **towers, **scale},
        "task_state": {**(beside.get("task_state") or {}), **task},
    }
    save_checkpoint(content, path)
