"""CLIP in Hugging Face's layout: a folder with ``config.json`` and ``model.safetensors``, read and written, or with the
weights in several files or in ``pytorch_model.bin``, read.

The weights are those of `transformers`' CLIPModel or, without an image tower, CLIPTextModelWithProjection; the
`transformers` package itself is not needed.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import torch

from mlvl_fairseq.checkpoints.archive import save_safetensors
from mlvl_fairseq.checkpoints.clip import QUICK_GELU, ClipCheckpoint, CLIPWeights, the_activation
from mlvl_fairseq.checkpoints.formats.open_clip import CONFIG as OPEN_CLIP_CONFIG
from mlvl_fairseq.checkpoints.huggingface import WEIGHTS, read_added_tokens, read_weights
from mlvl_fairseq.checkpoints.source import WeightFormat, WeightSource, count_layers, register_weight_format
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.files import write_json
from mlvl_fairseq.json_files import Size, checked, read_json
from mlvl_fairseq.modules.heads import INITIAL_TEMPERATURE
from mlvl_fairseq.modules.towers.clip_text import TextConfig
from mlvl_fairseq.modules.towers.clip_vision import VisionConfig
from mlvl_fairseq.modules.transformer import ACTIVATIONS

CONFIG, XLMR_WEIGHTS = "config.json", "model.pt"
OURS = "mlvl_fairseq"  # what of a configuration is ours
LAYER_NORM_EPS = 1e-5  # what the towers are built for
DEFAULT_HEADS = {"text": 8, "vision": 12}
BEGIN_OF_TEXT, END_OF_TEXT = 49406, 49407


class Renaming(NamedTuple):
    """A tensor's name in our towers and its parts' names, stacked in this order, in Hugging Face's layout."""

    ours: str
    theirs: Tuple[str, ...]
    transposed: bool = False


OUTER_TENSORS: Dict[str, List[Renaming]] = {
    "text": [
        Renaming("token_embedding.weight", ("text_model.embeddings.token_embedding.weight",)),
        Renaming("positional_embedding", ("text_model.embeddings.position_embedding.weight",)),
        Renaming("ln_final.weight", ("text_model.final_layer_norm.weight",)),
        Renaming("ln_final.bias", ("text_model.final_layer_norm.bias",)),
        Renaming("text_projection", ("text_projection.weight",), transposed=True),
    ],
    "vision": [
        Renaming("class_embedding", ("vision_model.embeddings.class_embedding",)),
        Renaming("conv1.weight", ("vision_model.embeddings.patch_embedding.weight",)),
        Renaming("positional_embedding", ("vision_model.embeddings.position_embedding.weight",)),
        Renaming("ln_pre.weight", ("vision_model.pre_layrnorm.weight",)),  # the misspelling is theirs
        Renaming("ln_pre.bias", ("vision_model.pre_layrnorm.bias",)),
        Renaming("ln_post.weight", ("vision_model.post_layernorm.weight",)),
        Renaming("ln_post.bias", ("vision_model.post_layernorm.bias",)),
        Renaming("proj", ("visual_projection.weight",), transposed=True),
    ],
}
BLOCK_MODULES = {
    "attn.out_proj": "self_attn.out_proj",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


@register_weight_format("clip", f"Hugging Face folder ({CONFIG} and {WEIGHTS[0]})")
class HuggingFaceFolder(WeightFormat):
    def detect(self, source: WeightSource) -> bool:
        if not source.path.is_dir():
            return source.path.suffix == ".safetensors"
        names = (CONFIG, *WEIGHTS, XLMR_WEIGHTS, OPEN_CLIP_CONFIG)
        there = {name for name in names if (source.path / name).exists()}
        has_weights = not there.isdisjoint(WEIGHTS) and OPEN_CLIP_CONFIG not in there
        return XLMR_WEIGHTS not in there and (CONFIG in there or has_weights)

    def read(self, source: WeightSource, init_from=None, activation=None) -> ClipCheckpoint:
        folder = source.path if source.path.is_dir() else source.path.parent
        missing = "a Hugging Face folder has it beside the weights"
        config = read_json(folder / CONFIG, Dict[str, Any], "fetch it again", missing)
        weights = read_weights(source.path)
        logit_scale = weights.pop("logit_scale", None)
        text = from_huggingface("text", weights, source.path)
        has_vision = any(name.startswith("vision_model.") for name in weights)
        vision = from_huggingface("vision", weights, source.path) if has_vision else {}
        for name in weights:
            raise DataError("unknown tensor; this is no CLIPModel", source.path, field=name)
        towers = {tower: _tower_options(config, tower, folder) for tower in ("text", "vision")[: 2 if vision else 1]}
        activations = {options.hidden_act for options in towers.values()}
        if len(activations) > 1 or not activations <= ACTIVATIONS.keys():
            message = (
                f"is {' and '.join(sorted(activations))}; supported is one of {', '.join(ACTIVATIONS)} for both towers"
            )
            raise DataError(message, folder / CONFIG, field="hidden_act")
        known = the_activation(activations.pop(), activation, source.path)
        heads = [options.num_attention_heads or DEFAULT_HEADS[tower] for tower, options in towers.items()]
        weights = CLIPWeights.from_tensors(
            source.path, text, vision, logit_scale, *(*heads, None)[:2], activation=known
        )
        vocabulary = read_added_tokens(folder, weights.text_config.vocab_size)
        ours = checked(config.get(OURS, {}), _Ours, folder / CONFIG, OURS)
        return ClipCheckpoint(weights, vocabulary=vocabulary, languages=ours.languages)


@dataclass
class _Ours:
    languages: List[str] = field(default_factory=list)


@dataclass
class _TowerOptions:
    """Of a tower's configuration; `transformers` has the same defaults."""

    hidden_act: str = QUICK_GELU
    layer_norm_eps: float = LAYER_NORM_EPS
    num_attention_heads: Optional[Size] = None


def _tower_options(config: Dict[str, Any], tower: str, folder: Path) -> _TowerOptions:
    """Nested configurations are CLIPModel's, flat ones those of a tower alone."""
    path, parts = folder / CONFIG, []
    for key in (f"{tower}_config", f"{tower}_config_dict"):  # older exports have the latter, which wins
        parts.append(checked(config.get(key), Optional[Dict[str, Any]], path, key) or {})
    options = checked({**(parts[0] or config), **parts[1]}, _TowerOptions, path, f"{tower}_config")
    if options.layer_norm_eps != LAYER_NORM_EPS:
        message = f"is {options.layer_norm_eps!r}; only CLIP's own {LAYER_NORM_EPS!r} is supported"
        raise DataError(message, path, field="layer_norm_eps")
    return options


def from_huggingface(tower: str, weights: Dict[str, torch.Tensor], path) -> Dict[str, torch.Tensor]:
    """Take a tower's tensors out of `weights` and give them our names.

    Args:
        tower: ``text`` or ``vision``.
        weights: tensors by Hugging Face's names; those taken are removed.
        path: file to name in errors.

    Raises:
        DataError: a tensor is missing.
    """
    prefix = f"{tower}_model.encoder.layers."
    layers = count_layers(weights, prefix, path)
    renamed = {}
    for renaming in _renamings(tower, layers):
        for name in renaming.theirs:
            if name not in weights:
                raise DataError("tensor is missing; this is no CLIPModel", path, field=name)
        parts = [weights.pop(name) for name in renaming.theirs]
        fit = len({part.shape for part in parts}) == 1 and (parts[0].dim() == 2 or not renaming.transposed)
        if not fit or len(parts) > 1 and not parts[0].dim():
            message = f"tensor has shape {list(parts[0].shape)}, which does not fit"
            raise DataError(message, path, field=renaming.theirs[0])
        tensor = parts[0] if len(parts) == 1 else torch.cat(parts)
        renamed[renaming.ours] = (tensor.t() if renaming.transposed else tensor).contiguous()
    return renamed


def to_huggingface(weights: CLIPWeights, folder, languages: Sequence[str] = ()) -> None:
    """Write weights as a folder that `transformers` loads with ``CLIPModel.from_pretrained``.

    A text tower alone is written for ``CLIPTextModelWithProjection``.

    Args:
        weights: what to write; a grown vocabulary is kept, its size goes into the configuration.
        folder: made if it does not exist; files of an earlier export are replaced.
        languages: learned in sequence; `transformers` reads over them.
    """
    tensors = to_their_names("text", weights.text, weights.text_config.layers)
    if weights.vision_config is not None:
        tensors.update(to_their_names("vision", weights.vision, weights.vision_config.layers))
        tensors["logit_scale"] = torch.tensor(_logit_scale(weights))
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_safetensors(tensors, folder / WEIGHTS[0])
    write_json(folder / CONFIG, {**_to_config(weights), OURS: {"languages": list(languages)}})


def _logit_scale(weights: CLIPWeights) -> float:
    """`transformers` wants a number: CLIP's own start, where the file has none."""
    return math.log(1 / INITIAL_TEMPERATURE) if weights.logit_scale is None else weights.logit_scale


def to_their_names(tower: str, tensors: Mapping[str, torch.Tensor], layers: int) -> Dict[str, torch.Tensor]:
    """The tensors of a tower, ``text`` or ``vision``, by Hugging Face's names; the projection may be absent."""
    renamed = {}
    for renaming in _renamings(tower, layers):
        if renaming.transposed and renaming.ours not in tensors:
            continue
        tensor = tensors[renaming.ours].detach()
        parts = (tensor.t() if renaming.transposed else tensor).chunk(len(renaming.theirs))
        renamed.update({name: part.contiguous() for name, part in zip(renaming.theirs, parts)})
    return renamed


def _renamings(tower: str, layers: int) -> Iterator[Renaming]:
    yield from OUTER_TENSORS[tower]
    for layer in range(layers):
        ours, theirs = f"transformer.resblocks.{layer}", f"{tower}_model.encoder.layers.{layer}"
        for kind in ("weight", "bias"):
            yield Renaming(f"{ours}.attn.in_proj_{kind}", tuple(f"{theirs}.self_attn.{p}_proj.{kind}" for p in "qkv"))
            for our_module, their_module in BLOCK_MODULES.items():
                yield Renaming(f"{ours}.{our_module}.{kind}", (f"{theirs}.{their_module}.{kind}",))


def text_options(config: TextConfig) -> Dict[str, Any]:
    """The configuration of a text tower."""
    return {
        **_shared_options("clip_text_model", config),
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.context_length,
        "bos_token_id": BEGIN_OF_TEXT,
        "eos_token_id": END_OF_TEXT,  # makes `transformers` pool at the first end of text, as we do
        "pad_token_id": END_OF_TEXT,
    }


def vision_options(config: VisionConfig) -> Dict[str, Any]:
    """The configuration of an image tower."""
    sizes = {"image_size": config.image_size, "patch_size": config.patch_size}
    return {**_shared_options("clip_vision_model", config), **sizes}


def _to_config(weights: CLIPWeights) -> Dict[str, Any]:
    text_config = text_options(weights.text_config)
    if weights.vision_config is None:
        return {"architectures": ["CLIPTextModelWithProjection"], **text_config}
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": weights.text_config.embed_dim,
        "logit_scale_init_value": _logit_scale(weights),
        "text_config": text_config,
        "vision_config": vision_options(weights.vision_config),
        "torch_dtype": "float32",
    }


def _shared_options(model_type: str, config: Union[TextConfig, VisionConfig]) -> Dict[str, Any]:
    return {
        "model_type": model_type,
        "hidden_size": config.width,
        "intermediate_size": config.mlp_width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "projection_dim": config.embed_dim or config.width,
        "hidden_act": config.activation,
        "layer_norm_eps": LAYER_NORM_EPS,
    }
