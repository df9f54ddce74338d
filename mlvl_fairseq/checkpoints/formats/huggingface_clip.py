"""CLIP in Hugging Face's layout: a folder with ``model.safetensors`` and ``config.json``; read and written.

The weights are those of `transformers`' CLIPModel or, without an image tower, CLIPTextModelWithProjection; the
`transformers` package itself is not needed.
"""

import json
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Tuple, Union

import torch

from mlvl_fairseq.checkpoints.clip import ClipCheckpoint, CLIPWeights
from mlvl_fairseq.checkpoints.source import WeightFormat, WeightSource, register_weight_format
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.files import atomic_path, write_json
from mlvl_fairseq.modules.towers.clip_text import TextConfig
from mlvl_fairseq.modules.towers.clip_vision import VisionConfig

WEIGHTS, CONFIG = "model.safetensors", "config.json"
# What the towers are built for; `transformers` has the same defaults where a configuration is silent.
FIXED_OPTIONS = {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
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


@register_weight_format("clip", f"Hugging Face folder ({CONFIG} and {WEIGHTS})")
class HuggingFaceFolder(WeightFormat):
    def detect(self, source: WeightSource) -> bool:
        is_folder = source.path.is_dir() and not (source.path / "model.pt").exists()  # that would be XLM-R's
        return is_folder or source.path.suffix == ".safetensors"

    def read(self, source: WeightSource, init_from=None) -> ClipCheckpoint:
        folder = source.path if source.path.is_dir() else source.path.parent
        config = _read_config(folder / CONFIG)
        weights = _read_safetensors(source.path if source.path.is_file() else folder / WEIGHTS)
        logit_scale = weights.pop("logit_scale", None)
        text = from_huggingface("text", weights, source.path)
        has_vision = any(name.startswith("vision_model.") for name in weights)
        vision = from_huggingface("vision", weights, source.path) if has_vision else {}
        for name in weights:
            raise DataError("unknown tensor; this is no CLIPModel", source.path, field=name)
        text_heads = _heads(config, "text", folder)
        vision_heads = _heads(config, "vision", folder) if vision else None
        weights = CLIPWeights.from_tensors(source.path, text, vision, logit_scale, text_heads, vision_heads)
        return ClipCheckpoint(weights)


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
    layers = len({name.split(".")[3] for name in weights if name.startswith(prefix)})
    renamed = {}
    for renaming in _renamings(tower, layers):
        for name in renaming.theirs:
            if name not in weights:
                raise DataError("tensor is missing; this is no CLIPModel", path, field=name)
        parts = [weights.pop(name) for name in renaming.theirs]
        tensor = parts[0] if len(parts) == 1 else torch.cat(parts)
        renamed[renaming.ours] = (tensor.t() if renaming.transposed else tensor).contiguous()
    return renamed


def to_huggingface(weights: CLIPWeights, folder) -> None:
    """Write weights as a folder that `transformers` loads with ``CLIPModel.from_pretrained``.

    A text tower alone is written for ``CLIPTextModelWithProjection``.

    Args:
        weights: what to write; a grown vocabulary is kept, its size goes into the configuration.
        folder: made if it does not exist; files of an earlier export are replaced.
    """
    from safetensors.torch import save_file

    tensors = _to_their_names("text", weights.text, weights.text_config.layers)
    if weights.vision_config is not None:
        tensors.update(_to_their_names("vision", weights.vision, weights.vision_config.layers))
    if weights.logit_scale is not None:
        tensors["logit_scale"] = torch.tensor(weights.logit_scale)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / WEIGHTS) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})
    write_json(folder / CONFIG, _to_config(weights))


def _to_their_names(tower: str, tensors: Mapping[str, torch.Tensor], layers: int) -> Dict[str, torch.Tensor]:
    renamed = {}
    for renaming in _renamings(tower, layers):
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


def _read_config(path: Path) -> Dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError("is missing; a Hugging Face folder has it beside the weights", path) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"is not JSON: {error}", path) from None
    if not isinstance(config, dict):
        raise DataError("is no JSON object", path)
    return config


def _heads(config: Dict[str, Any], tower: str, folder: Path) -> int:
    """Attention heads of a tower; nested configurations are CLIPModel's, flat ones those of a tower alone."""
    options = {**(config.get(f"{tower}_config") or config), **(config.get(f"{tower}_config_dict") or {})}
    for name, value in FIXED_OPTIONS.items():
        if options.get(name, value) != value:
            message = f"is {options[name]!r}; only CLIP's own {value!r} is supported"
            raise DataError(message, folder / CONFIG, field=name)
    heads = options.get("num_attention_heads", DEFAULT_HEADS[tower])
    if not isinstance(heads, int) or heads < 1:
        raise DataError(f"is {heads!r}, not a positive integer", folder / CONFIG, field="num_attention_heads")
    return heads


def _read_safetensors(path: Path) -> Dict[str, torch.Tensor]:
    """Tensors as float32, without the position indices that older exports store."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            names = [name for name in file.keys() if not name.endswith(".position_ids")]
            return {name: file.get_tensor(name).float() for name in names}
    except FileNotFoundError:
        raise DataError("is missing; only weights as safetensors are read in this layout", path) from None
    except SafetensorError as error:
        raise DataError(f"is truncated or no safetensors file ({error}); fetch it again", path) from None


def _to_config(weights: CLIPWeights) -> Dict[str, Any]:
    text = weights.text_config
    text_options = {
        **_shared_options("clip_text_model", text),
        "vocab_size": text.vocab_size,
        "max_position_embeddings": text.context_length,
        "bos_token_id": BEGIN_OF_TEXT,
        "eos_token_id": END_OF_TEXT,  # makes `transformers` pool at the first end of text, as we do
        "pad_token_id": END_OF_TEXT,
    }
    if weights.vision_config is None:
        return {"architectures": ["CLIPTextModelWithProjection"], **text_options}
    vision = weights.vision_config
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": text.embed_dim,
        "logit_scale_init_value": weights.logit_scale,
        "text_config": text_options,
        "vision_config": {
            **_shared_options("clip_vision_model", vision),
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
        },
        "torch_dtype": "float32",
    }


def _shared_options(model_type: str, config: Union[TextConfig, VisionConfig]) -> Dict[str, Any]:
    return {
        "model_type": model_type,
        "hidden_size": config.width,
        "intermediate_size": config.mlp_width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "projection_dim": config.embed_dim,
        **FIXED_OPTIONS,
    }
