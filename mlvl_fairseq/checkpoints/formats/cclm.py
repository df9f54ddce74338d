"""Checkpoints of CCLM's published code (Zeng et al. 2023), of pre-training (3M, 4M) and of models fine-tuned for
retrieval, XVNLI, xGQA and MaRVL, and X-VLM's (Zeng et al. 2022), which have the same names: tensors under ``model``,
and under ``config`` the whole configuration, plain values. Nothing in them is executed.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

import torch

from mlvl_fairseq.checkpoints.source import Tensors, WeightSource, as_float32, count_layers, take_prefix
from mlvl_fairseq.checkpoints.towers.relative_positions import window_of
from mlvl_fairseq.checkpoints.towers.swin import INDEX, MASK, TABLE, torchvision_names
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.json_files import Size, checked

IMAGE, TEXT, LM = "vision_encoder.", "text_encoder.", "text_encoder.cls.predictions."
WRAPPED = "text_encoder.bert."  # the text encoder inside the class with the head of masked tokens
DECODER, DECODER_LM = "text_decoder.bert.", "text_decoder.cls.predictions."
WORDS, POSITIONS = "embeddings.word_embeddings.weight", "embeddings.position_embeddings.weight"
TYPES, POSITION_IDS = "embeddings.token_type_embeddings.weight", "embeddings.position_ids"
CROSS = ".crossattention."
CROSS_KEY = f"{CROSS}self.key.weight"
ALIASES = {
    f"{LM}decoder.weight": f"{TEXT}{WORDS}",
    f"{LM}decoder.bias": f"{LM}bias",
    f"{DECODER_LM}decoder.weight": f"{DECODER}{WORDS}",
    f"{DECODER_LM}decoder.bias": f"{DECODER_LM}bias",
}
OF_TWO_IMAGES = ("cls_head.", "ta_head.")  # heads of models that may read two images
SHARED = tuple(f"{CROSS}self.{part}.{kind}" for part in ("key", "value") for kind in ("weight", "bias"))
LAYER = re.compile(r"encoder\.layer\.(\d{1,4})\.(.+)")


@dataclass
class Said:
    """The configuration, as far as it matters; None: it does not say it."""

    image_res: Optional[Size] = None
    embed_dim: Optional[Size] = None
    max_tokens: Optional[Size] = None


@dataclass(frozen=True)
class CclmFile:
    """A checkpoint.

    Attributes:
        tensors: in float32, by the names of :class:`mlvl_fairseq.networks.cclm.CclmNetwork`.
        dropped: names of the file's tensors that follow from others, or are others' second names.
        said: what its configuration says.
        image, text: dimensions of the towers, by the fields of their configs. fusion_layers: of the fusion encoder.
        images_per_text: how many copies each of these has; they share key and value maps.
        token_types: rows of the file, of which the first is kept.
        source: the file.
    """

    tensors: Tensors
    dropped: List[str]
    said: Said
    image: Mapping[str, Any]
    text: Mapping[str, int]
    fusion_layers: int
    images_per_text: int
    token_types: int
    source: Path


def read_cclm(path) -> CclmFile:
    """Read a checkpoint.

    Raises:
        DataError: the file is missing, damaged, refused for its content, or of another layout.
    """
    content = WeightSource(path).state
    model = content["model"] if isinstance(content.get("model"), Mapping) else content
    tensors = as_float32(checked(model, Dict[str, Any], path, "model" if model is not content else ""), path)
    said = checked(content.get("config") or {}, Said, path, "config")
    tensors = {_unwrapped(name): tensor for name, tensor in tensors.items()}
    dropped = _drop(tensors, path)
    image = _swin(tensors, said, path)
    text, crossed = _bert(tensors, path)
    copies = _copies(tensors, crossed)
    types = _matrix(tensors, TEXT + TYPES, path)
    named = {_our_name(name, text["layers"]): tensor for name, tensor in tensors.items() if not name.startswith(IMAGE)}
    swin = torchvision_names(take_prefix(tensors, IMAGE))
    named.update({f"visual_encoder.{name}": tensor for name, tensor in swin.items()})
    named[TEXT + TYPES] = types[:1]
    if f"{DECODER}{TYPES}" in tensors:
        named[_our_name(f"{DECODER}{TYPES}", 0)] = _matrix(tensors, f"{DECODER}{TYPES}", path)[:1]
    if "vision_proj.weight" not in named:  # use_one_cl_proj_only, or none as in a fine-tuned classifier
        named.update({f"vision_proj.{name}": tensor for name, tensor in take_prefix(named, "text_proj.").items()})
    return CclmFile(named, dropped, said, image, text, len(crossed) // copies, copies, len(types), Path(path))


def _unwrapped(name: str) -> str:
    return TEXT + name[len(WRAPPED) :] if name.startswith(WRAPPED) else name


def _drop(tensors: Tensors, path) -> List[str]:
    """Take out what follows from other tensors. Returns names.

    Raises:
        DataError: a second name stands for something else.
    """
    for alias, name in ALIASES.items():
        if alias in tensors and not (name in tensors and torch.equal(tensors[alias], tensors[name])):
            raise DataError(f"is not tied to {name}, as it is in CCLM", path, field=alias)
    buffers = [name for name in tensors if name.startswith(IMAGE) and name.endswith((INDEX, MASK))]
    dropped = [name for name in (*buffers, TEXT + POSITION_IDS, DECODER + POSITION_IDS, *ALIASES) if name in tensors]
    for name in dropped:
        del tensors[name]
    return dropped


def _swin(tensors: Tensors, said: Said, path) -> Dict[str, Any]:
    own = take_prefix(tensors, IMAGE)
    if not own:
        raise DataError(f"holds no image encoder (no tensor '{IMAGE}...'); this is no checkpoint of CCLM", path)
    patch = own.get("patch_embed.proj.weight")
    tables = {name: table for name, table in own.items() if name.endswith(TABLE)}
    if patch is None or patch.dim() != 4 or not patch.numel() or not tables:
        raise DataError("its image encoder is no Swin, which is all that is converted", path, field=IMAGE + "*")
    stages = count_layers(own, "layers.", path)
    layers = tuple(count_layers(own, f"layers.{stage}.blocks.", path) for stage in range(stages))
    firsts = [f"layers.{stage}.blocks.0.attn{TABLE}" for stage in range(stages)]
    windows = [window_of(_matrix(tensors, IMAGE + name, path), path, IMAGE + name) for name in firsts]
    whole = patch.shape[-1] * 2 ** (stages - 1) * windows[0]  # a picture that is one window in the last stage
    return {
        "image_size": said.image_res or whole,
        "patch_size": patch.shape[-1],
        "width": len(patch),
        "layers": layers,
        "heads": tuple(own[name].shape[1] for name in firsts),
        "window": windows[0],
    }


def _bert(tensors: Tensors, path) -> tuple:
    """Dimensions of the text tower, and the numbers of the layers with cross-attention, which are behind the others."""
    own = take_prefix(tensors, TEXT)
    words = _matrix(tensors, TEXT + WORDS, path)
    total = count_layers(own, "encoder.layer.", path)
    crossed = [number for number in range(total) if f"encoder.layer.{number}{CROSS_KEY}" in own]
    if not crossed:
        raise DataError("none of its text layers has cross-attention; this is no checkpoint of CCLM", path)
    if crossed != list(range(total - len(crossed), total)):
        message = f"has cross-attention in the text layers {', '.join(map(str, crossed))} of {total}: not in the last"
        raise DataError(message, path)
    dimensions = {
        "vocab_size": words.shape[0],
        "width": words.shape[1],
        "layers": total - len(crossed),
        "ffn_width": len(_matrix(tensors, f"{TEXT}encoder.layer.0.intermediate.dense.weight", path)),
        "max_positions": len(_matrix(tensors, TEXT + POSITIONS, path)),
    }
    return dimensions, crossed


def _copies(tensors: Tensors, crossed: List[int]) -> int:
    """How many copies of each layer with cross-attention there are: 2 in a model of two images (MaRVL), whose layers
    share key and value maps two by two."""

    def same(first: int) -> bool:
        names = [[f"{TEXT}encoder.layer.{number}{part}" for number in (first, first + 1)] for part in SHARED]
        return all(one in tensors and two in tensors and _equal(tensors[one], tensors[two]) for one, two in names)

    tuned = any(name.startswith(OF_TWO_IMAGES) for name in tensors)
    return 2 if tuned and len(crossed) % 2 == 0 and all(same(first) for first in crossed[::2]) else 1


def _equal(one: torch.Tensor, two: torch.Tensor) -> bool:
    return not one.is_meta and torch.equal(one, two)


def _our_name(name: str, text_layers: int) -> str:
    if name.startswith(LM):
        return "lm_head." + name[len(LM) :].removeprefix("transform.")
    if name.startswith(DECODER_LM):
        return "text_decoder.lm_head." + name[len(DECODER_LM) :].removeprefix("transform.")
    if name.startswith(DECODER):
        return "text_decoder." + name[len(DECODER) :].removeprefix("encoder.")
    layer = LAYER.fullmatch(name.removeprefix(TEXT)) if name.startswith(TEXT) else None
    if layer and int(layer[1]) >= text_layers:
        return f"fusion.layer.{int(layer[1]) - text_layers}.{layer[2]}"
    return name


def _matrix(tensors: Tensors, name: str, path) -> torch.Tensor:
    """A matrix that has to be there. Raises DataError: it is not, or is none."""
    if name not in tensors:
        raise DataError("tensor is missing; this is no checkpoint of CCLM", path, field=name)
    if tensors[name].dim() != 2 or not tensors[name].numel():
        raise DataError(f"tensor has shape {list(tensors[name].shape)}, expected a matrix", path, field=name)
    return tensors[name]


def image_width(file: CclmFile) -> int:
    """Dimensions of an image's states."""
    return file.image["width"] * 2 ** (len(file.image["layers"]) - 1)
