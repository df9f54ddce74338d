"""CLIP weights as the towers want them, whatever the file they come from.

A file format is one module of this package with a class under `register_weight_format`; `read_clip_weights` asks
each whether a file is its own.
"""

import functools
import hashlib
import importlib
import pkgutil
import zipfile
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Type

import torch
import torch.nn as nn

from mlvl_fairseq.checkpoints.formats.torchscript_archive import is_torchscript
from mlvl_fairseq.checkpoints.skeletons import without_values
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.modules.towers.clip_text import CLIPTextTower
from mlvl_fairseq.modules.towers.clip_vision import CLIPVisionTower

Tensors = Dict[str, torch.Tensor]
ZIP_MAGIC = b"PK\x03\x04"
LEGACY_TORCH_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # files of torch < 1.6: a pickled constant


@dataclass(frozen=True)
class TextConfig:
    """Dimensions of a text tower; the fields are the arguments of `CLIPTextTower`."""

    vocab_size: int
    width: int
    layers: int
    heads: int
    embed_dim: int
    context_length: int
    mlp_width: int


@dataclass(frozen=True)
class VisionConfig:
    """Dimensions of an image tower; the fields are the arguments of `CLIPVisionTower`."""

    image_size: int
    patch_size: int
    width: int
    layers: int
    heads: int
    embed_dim: int
    mlp_width: int


@dataclass(frozen=True)
class CLIPWeights:
    """Checked float32 weights of a CLIP model.

    Attributes:
        text: tensors by their name in `CLIPTextTower`.
        vision: tensors by their name in `CLIPVisionTower`; empty where the file has no image tower.
        logit_scale: logarithm of the inverse temperature, None where the file has none.
        text_config: dimensions of the text tower.
        vision_config: dimensions of the image tower, None where there is none.
        fingerprint: SHA-256 of the tensors (see `fingerprint`); equal weights in other files have the same one.
        source: the file or folder read.
    """

    text: Tensors
    vision: Tensors
    logit_scale: Optional[float]
    text_config: TextConfig
    vision_config: Optional[VisionConfig]
    fingerprint: str
    source: str

    @classmethod
    def from_tensors(
        cls,
        source,
        text: Tensors,
        vision: Tensors,
        logit_scale: Optional[torch.Tensor],
        text_heads: Optional[int] = None,
        vision_heads: Optional[int] = None,
    ) -> "CLIPWeights":
        """Infer the dimensions and check every name and shape.

        Args:
            source: file or folder to name in errors.
            text, vision: float32 tensors by tower name.
            logit_scale: one element.
            text_heads, vision_heads: attention heads; ``width // 64``, as in `clip`, when not given.

        Raises:
            DataError: a tensor is missing, unknown or of the wrong shape.
        """
        text_config = _infer_text_config(source, text, text_heads)
        _check_tensors(source, CLIPTextTower, text_config, text)
        vision_config = None
        if vision:
            vision_config = _infer_vision_config(source, vision, vision_heads)
            _check_tensors(source, CLIPVisionTower, vision_config, vision)
            if vision_config.embed_dim != text_config.embed_dim:
                raise DataError(
                    f"text features have {text_config.embed_dim} dimensions and image features "
                    f"{vision_config.embed_dim}; they must agree",
                    source,
                )
        every = {f"text.{name}": tensor for name, tensor in text.items()}
        every.update({f"vision.{name}": tensor for name, tensor in vision.items()})
        if logit_scale is not None:
            every["logit_scale"] = logit_scale.reshape(())
        scale = None if logit_scale is None else float(logit_scale)
        return cls(text, vision, scale, text_config, vision_config, fingerprint(every), str(source))

    def text_tower(self) -> CLIPTextTower:
        """A text tower that holds these very tensors (not copies)."""
        return _build(CLIPTextTower, self.text_config, self.text)

    def vision_tower(self) -> CLIPVisionTower:
        """An image tower that holds these very tensors (not copies).

        Raises:
            DataError: the file has no image tower.
        """
        if self.vision_config is None:
            raise DataError("holds no image tower; give a checkpoint with both towers", self.source)
        return _build(CLIPVisionTower, self.vision_config, self.vision)


class WeightSource:
    """A file or folder that formats are asked about; what they look at is read once.

    Raises:
        DataError: nothing is there.
    """

    def __init__(self, path):
        self.path = Path(path)
        if not self.path.exists():
            raise DataError("no such file or folder; give a checkpoint", self.path)

    @functools.cached_property
    def is_torchscript(self) -> bool:
        """Whether it is a TorchScript archive."""
        return is_torchscript(self._zip_entries)

    @functools.cached_property
    def state(self) -> Mapping[str, Any]:
        """The dictionary that `torch.save` put into the file, loaded safely; empty for every other kind of file.

        Raises:
            DataError: the file is damaged, or holds more than plain containers and tensors.
        """
        from mlvl_fairseq.checkpoints.safe_loading import load_checkpoint_file

        if self._magic == LEGACY_TORCH_MAGIC or (self._zip_entries and not self.is_torchscript):
            return load_checkpoint_file(self.path)
        return {}

    @functools.cached_property
    def _magic(self) -> bytes:
        if self.path.is_dir():
            return b""
        with open(self.path, "rb") as file:
            return file.read(len(LEGACY_TORCH_MAGIC))

    @functools.cached_property
    def _zip_entries(self) -> List[str]:
        if not self._magic.startswith(ZIP_MAGIC):
            return []
        try:
            with zipfile.ZipFile(self.path) as archive:
                return archive.namelist()
        except zipfile.BadZipFile as error:
            raise DataError(f"the file is truncated or damaged ({error}); fetch it again", self.path) from None


class WeightFormat(ABC):
    """One kind of file or folder that holds a CLIP model."""

    @abstractmethod
    def detect(self, source: WeightSource) -> bool:
        """Whether the source is of this format, and of no other."""

    @abstractmethod
    def read(self, source: WeightSource) -> CLIPWeights:
        """Read the weights.

        Raises:
            DataError: the source is damaged or holds another model.
        """


FORMATS: Dict[str, WeightFormat] = {}


def register_weight_format(description: str) -> Callable[[Type[WeightFormat]], Type[WeightFormat]]:
    """Class decorator: make `read_clip_weights` recognise a format. Error messages list the description."""

    def register(cls: Type[WeightFormat]) -> Type[WeightFormat]:
        FORMATS[description] = cls()
        return cls

    return register


def read_clip_weights(path) -> CLIPWeights:
    """Read CLIP weights in any registered format; nothing in the file is executed.

    Args:
        path: a checkpoint file or, for Hugging Face's layout, a folder.

    Raises:
        DataError: the file is missing, damaged, refused for its content, or of no known format.
    """
    _import_formats()
    source = WeightSource(path)
    for weight_format in FORMATS.values():
        if weight_format.detect(source):
            return weight_format.read(source)
    raise DataError(f"no CLIP checkpoint of a known format; known are: {'; '.join(sorted(FORMATS))}", path)


def fingerprint(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 (64 hexadecimal digits) over sorted names, types, shapes and bytes of tensors."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def fingerprint_tensor(hex_digest: str) -> torch.Tensor:
    """A sha256 as uint8 [32]: the form in which it can travel in a state dict."""
    return torch.tensor(list(bytes.fromhex(hex_digest)), dtype=torch.uint8)


def fingerprint_of(tensor: torch.Tensor) -> str:
    """The sha256 (hex) behind what :func:`fingerprint_tensor` made."""
    return bytes(tensor.tolist()).hex()


def take_prefix(tensors: Mapping[str, torch.Tensor], prefix: str) -> Tensors:
    """The tensors whose names start with `prefix`, named without it."""
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def as_float32(tensors: Mapping[str, Any], path) -> Tensors:
    """The tensors in float32.

    Raises:
        DataError: an entry is no tensor.
    """
    for name, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor):
            raise DataError(f"is a {type(tensor).__name__}, not a tensor", path, field=name)
    return {name: tensor.float() for name, tensor in tensors.items()}


def _import_formats() -> None:
    package = importlib.import_module(__name__.rpartition(".")[0])
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)


def _infer_text_config(source, text: Tensors, heads: Optional[int]) -> TextConfig:
    vocab_size, width = _shape(source, text, "token_embedding.weight", 2)
    return TextConfig(
        vocab_size=vocab_size,
        width=width,
        layers=_count_layers(text),
        heads=heads or width // 64,
        embed_dim=_shape(source, text, "text_projection", 2)[1],
        context_length=_shape(source, text, "positional_embedding", 2)[0],
        mlp_width=_shape(source, text, "transformer.resblocks.0.mlp.c_fc.weight", 2)[0],
    )


def _infer_vision_config(source, vision: Tensors, heads: Optional[int]) -> VisionConfig:
    width, _, _, patch_size = _shape(source, vision, "conv1.weight", 4)
    positions = _shape(source, vision, "positional_embedding", 2)[0]
    return VisionConfig(
        image_size=patch_size * round((positions - 1) ** 0.5),
        patch_size=patch_size,
        width=width,
        layers=_count_layers(vision),
        heads=heads or width // 64,
        embed_dim=_shape(source, vision, "proj", 2)[1],
        mlp_width=_shape(source, vision, "transformer.resblocks.0.mlp.c_fc.weight", 2)[0],
    )


def _shape(source, tensors: Tensors, name: str, dimensions: int) -> torch.Size:
    if name not in tensors:
        raise DataError("tensor is missing; this is no CLIP model with this tower", source, field=name)
    shape = tensors[name].shape
    if len(shape) != dimensions:
        raise DataError(f"tensor has {len(shape)} dimensions, not {dimensions}", source, field=name)
    return shape


def _count_layers(tensors: Tensors) -> int:
    return len({name.split(".")[2] for name in tensors if name.startswith("transformer.resblocks.")})


def _check_tensors(source, tower: Type[nn.Module], config: Any, tensors: Tensors) -> None:
    try:
        expected = without_values(tower, **asdict(config)).state_dict()
    except ValueError as error:
        raise DataError(f"no {tower.__name__} has these dimensions: {error}", source) from None
    for name in expected.keys() - tensors.keys():
        raise DataError("tensor is missing", source, field=name)
    for name in tensors.keys() - expected.keys():
        raise DataError(f"unknown tensor; a {tower.__name__} has none of this name", source, field=name)
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            message = f"tensor has shape {list(tensor.shape)}, expected {list(expected[name].shape)}"
            raise DataError(message, source, field=name)


def _build(tower: Type[nn.Module], config: Any, tensors: Tensors) -> Any:
    module = without_values(tower, **asdict(config))
    module.load_state_dict(tensors, assign=True)
    return module
