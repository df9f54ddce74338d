"""OpenAI's CLIP checkpoints: TorchScript archives as published (``ViT-B-32.pt``), or their state dict saved again."""

from typing import Dict, Iterable, Set

import torch

from mlvl_fairseq.checkpoints.clip import ClipCheckpoint, CLIPWeights
from mlvl_fairseq.checkpoints.formats.torchscript_archive import TorchScriptArchive
from mlvl_fairseq.checkpoints.source import WeightFormat, WeightSource, as_float32, register_weight_format, take_prefix
from mlvl_fairseq.errors import DataError

# Sizes that the archives keep beside the weights, and the causal mask that some exports turn into an attribute.
NOT_WEIGHTS = {"input_resolution", "context_length", "vocab_size"}
MASK_SUFFIX = ".attn_mask"


@register_weight_format("clip", "OpenAI's TorchScript archive (ViT-*.pt)")
class OpenAIArchive(WeightFormat):
    def detect(self, source: WeightSource) -> bool:
        return source.is_torchscript

    def read(self, source: WeightSource, init_from=None) -> ClipCheckpoint:
        archive = TorchScriptArchive(source.path)
        names = _weight_names(archive.names(), source)
        return _checkpoint(archive.load(names, lambda tensor: tensor.float().contiguous()), source)


@register_weight_format("clip", "state dict of OpenAI's CLIP (torch.save)")
class OpenAIStateDict(WeightFormat):
    def detect(self, source: WeightSource) -> bool:
        return "token_embedding.weight" in source.state

    def read(self, source: WeightSource, init_from=None) -> ClipCheckpoint:
        names = _weight_names(source.state, source)
        return _checkpoint(as_float32({name: source.state[name] for name in names}, source.path), source)


def _weight_names(names: Iterable[str], source: WeightSource) -> Set[str]:
    weights = {name for name in names if name not in NOT_WEIGHTS and not name.endswith(MASK_SUFFIX)}
    if any(name.startswith("visual.layer1.") for name in weights):
        raise DataError("its image tower is a ResNet (an RN50 type); only ViT models are supported", source.path)
    return weights


def _checkpoint(tensors: Dict[str, torch.Tensor], source: WeightSource) -> ClipCheckpoint:
    logit_scale = tensors.pop("logit_scale", None)
    text = {name: tensor for name, tensor in tensors.items() if not name.startswith("visual.")}
    weights = CLIPWeights.from_tensors(source.path, text, take_prefix(tensors, "visual."), logit_scale)
    return ClipCheckpoint(weights)
