"""OpenAI's CLIP checkpoints: TorchScript archives as published (``ViT-B-32.pt``), or their state dict saved again.

open_clip gives its tensors the same names, and most of its models have GELU where OpenAI's have QuickGELU. The archives
are OpenAI's, and so are state dicts with the sizes that only these archives have among their tensors. Of others, an
``open_clip_config.json`` beside the file or the user says which activation it is.
"""

from pathlib import Path
from typing import Any, Dict, Iterable, Optional, Set

import torch

from mlvl_fairseq.checkpoints.clip import QUICK_GELU, ClipCheckpoint, CLIPWeights, the_activation
from mlvl_fairseq.checkpoints.formats.open_clip import CONFIG, read_config
from mlvl_fairseq.checkpoints.formats.torchscript_archive import TorchScriptArchive
from mlvl_fairseq.checkpoints.source import WeightFormat, WeightSource, as_float32, register_weight_format, take_prefix
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.json_files import checked

# Sizes that the archives keep beside the weights, and the causal mask that some exports turn into an attribute.
NOT_WEIGHTS = {"input_resolution", "context_length", "vocab_size"}
MASK_SUFFIX = ".attn_mask"


@register_weight_format("clip", "OpenAI's TorchScript archive (ViT-*.pt)")
class OpenAIArchive(WeightFormat):
    def detect(self, source: WeightSource) -> bool:
        return source.is_torchscript

    def read(self, source: WeightSource, init_from=None, activation=None) -> ClipCheckpoint:
        activation = the_activation(QUICK_GELU, activation, source.path)
        archive = TorchScriptArchive(source.path)
        names = _weight_names(archive.names(), source)
        return _checkpoint(archive.load(names, lambda tensor: tensor.float().contiguous()), source, activation)


@register_weight_format("clip", "state dict of OpenAI's CLIP (torch.save)")
class OpenAIStateDict(WeightFormat):
    def detect(self, source: WeightSource) -> bool:
        return "token_embedding.weight" in source.state

    def read(self, source: WeightSource, init_from=None, activation=None) -> ClipCheckpoint:
        state = checked(source.state, Dict[str, Any], source.path)
        names = _weight_names(state, source)
        known = QUICK_GELU if NOT_WEIGHTS & state.keys() else _read_open_clip_config(source.path.parent)
        activation = the_activation(known, activation, source.path)
        return _checkpoint(as_float32({name: state[name] for name in names}, source.path), source, activation)


def _read_open_clip_config(folder: Path) -> Optional[str]:
    """The activation that open_clip's configuration names; None: there is none. Its own default is GELU."""
    return read_config(folder).activation if (folder / CONFIG).exists() else None


def _weight_names(names: Iterable[str], source: WeightSource) -> Set[str]:
    weights = {name for name in names if name not in NOT_WEIGHTS and not name.endswith(MASK_SUFFIX)}
    if any(name.startswith("visual.layer1.") for name in weights):
        raise DataError("its image tower is a ResNet (an RN50 type); only ViT models are supported", source.path)
    return weights


def _checkpoint(tensors: Dict[str, torch.Tensor], source: WeightSource, activation: str) -> ClipCheckpoint:
    logit_scale = tensors.pop("logit_scale", None)
    text = {name: tensor for name, tensor in tensors.items() if not name.startswith("visual.")}
    weights = CLIPWeights.from_tensors(
        source.path, text, take_prefix(tensors, "visual."), logit_scale, activation=activation
    )
    return ClipCheckpoint(weights)
