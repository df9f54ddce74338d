"""Weights of a CLIP, whatever the file they come from."""

import logging
from dataclasses import asdict, dataclass, field
from typing import Dict, List, Optional, Tuple

import torch

from mlvl_fairseq.checkpoints.check import check_tensors, holding
from mlvl_fairseq.checkpoints.source import (
    Tensors,
    WeightSource,
    add_prefix,
    count_layers,
    fingerprint,
    format_of,
    scalar,
)
from mlvl_fairseq.data.text.base import Tokenizer
from mlvl_fairseq.data.text.going_on import tokenizer_to_go_on
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.modules.adapters import TextAdapter
from mlvl_fairseq.modules.towers.clip_text import CLIPTextTower, TextConfig
from mlvl_fairseq.modules.towers.clip_vision import CLIPVisionTower, VisionConfig
from mlvl_fairseq.modules.transformer import ACTIVATIONS

logger = logging.getLogger(__name__)
QUICK_GELU = "quick_gelu"
_LAYERS = "transformer.resblocks."


@dataclass(frozen=True)
class CLIPWeights:
    """Checked float32 weights of a CLIP's towers.

    Attributes:
        text: tensors by their name in `CLIPTextTower`.
        vision: tensors by their name in `CLIPVisionTower`; empty where the file has no image tower.
        logit_scale: logarithm of the inverse temperature, None where the file has none.
        text_config: dimensions of the text tower.
        vision_config: dimensions of the image tower, None where there is none.
        fingerprint: SHA-256 of the tensors (see `fingerprint`) and of the activation, if it is not CLIP's own; equal
            weights in other files have the same one.
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
        activation: str = QUICK_GELU,
    ) -> "CLIPWeights":
        """Infer the dimensions and check every name and shape.

        Args:
            source: file or folder to name in errors.
            text, vision: float32 tensors by tower name.
            logit_scale: one element.
            text_heads, vision_heads: attention heads; ``width // 64``, as in `clip`, when not given.
            activation: of both towers, see :func:`the_activation`.

        Raises:
            DataError: a tensor is missing, unknown or of the wrong shape.
        """
        text_config = _infer_text_config(source, text, text_heads, activation)
        check_tensors(source, "a CLIPTextTower", text_config.build, text)
        vision_config = None
        if vision:
            vision_config = _infer_vision_config(source, vision, vision_heads, activation)
            check_tensors(source, "a CLIPVisionTower", vision_config.build, vision)
            if vision_config.embed_dim != text_config.embed_dim:
                raise DataError(
                    f"text features have {text_config.embed_dim} dimensions and image features "
                    f"{vision_config.embed_dim}; they must agree",
                    source,
                )
        every = {**add_prefix(text, "text."), **add_prefix(vision, "vision.")}
        if logit_scale is not None:
            every["logit_scale"] = logit_scale = scalar(logit_scale, source)
        if activation != QUICK_GELU:
            every["activation"] = torch.tensor(list(activation.encode()))
        scale = None if logit_scale is None else float(logit_scale)
        return cls(text, vision, scale, text_config, vision_config, fingerprint(every), str(source))

    def text_tower(self) -> CLIPTextTower:
        """A text tower that holds these very tensors (not copies)."""
        return holding(self.text_config.build, self.text)

    def vision_tower(self) -> CLIPVisionTower:
        """An image tower that holds these very tensors (not copies).

        Raises:
            DataError: the file has no image tower.
        """
        if self.vision_config is None:
            raise DataError("holds no image tower; give a checkpoint with both towers", self.source)
        return holding(self.vision_config.build, self.vision)


@dataclass(frozen=True)
class ClipCheckpoint:
    """What a file says of a CLIP. Files of other programs hold towers and nothing else.

    Attributes:
        weights: both towers, frozen parts included.
        head: tensors of the head on given image features; empty where there is none.
        vocabulary: ``tokens`` and ``merges`` that were added to CLIP's.
        languages: the languages learned in sequence.
        segmentation: see :class:`~mlvl_fairseq.data.text.ClipTokenizer`; empty: all captions are cut alike.
        adapter: what languages add to the text tower, in evaluation mode; None: nothing.
    """

    weights: CLIPWeights
    head: Tensors = field(default_factory=dict)
    vocabulary: Dict[str, List[str]] = field(default_factory=lambda: {"tokens": [], "merges": []})
    languages: List[str] = field(default_factory=list)
    adapter: Optional[TextAdapter] = None
    segmentation: Dict[str, Tuple[int, int]] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the weights, and of adapter and its options and of segmentation if there are such."""
        if self.adapter is None and not self.segmentation:
            return self.weights.fingerprint
        basis, tensors = self.weights.fingerprint, {}
        if self.adapter is not None:
            basis, tensors = f"{basis} {self.adapter.name} {asdict(self.adapter.options)}", self.adapter.state_dict()
        if self.segmentation:
            basis = f"{basis} {sorted(self.segmentation.items())}"
        return fingerprint({"basis": torch.tensor(list(basis.encode())), **tensors})


def the_activation(known: Optional[str], given: Optional[str], path) -> str:
    """``quick_gelu`` (OpenAI's) or ``gelu`` (open_clip's): what the MLPs of a file were trained with.

    Args:
        known: what the file says, None: nothing. given: what the user says.

    Raises:
        UserError: neither says it, or they differ.
    """
    if known is None and given is None:
        raise UserError(
            f"{path} has the names of OpenAI's CLIP, which open_clip uses, too, and does not say which activation its "
            "MLPs have: pass --activation quick_gelu (OpenAI's weights, and models called *-quickgelu) or --activation "
            "gelu (open_clip's others), with mlvl-prepare --teacher-activation; or put its open_clip_config.json beside"
        )
    if known and given and known != given:
        raise UserError(f"{path} says that its activation is {known}, not {given}: leave --activation out")
    if (known or given) not in ACTIVATIONS:
        raise UserError(f"{path}: no activation '{known or given}'; there are: {', '.join(ACTIVATIONS)}")
    return known or given


def read_clip(path, init_from=None, activation: Optional[str] = None) -> ClipCheckpoint:
    """Read a CLIP in any registered format; nothing in the file is executed.

    Args:
        path: a checkpoint file or, for Hugging Face's layout, a folder.
        init_from: where the frozen weights of a checkpoint of this plugin are now; None: where they were when it was
            trained.
        activation: of its MLPs, where the file does not say it.

    Raises:
        DataError: a file is missing, damaged, refused for its content, or of no known format.
        UserError: it holds no CLIP, the frozen weights are not those it was trained with, or its activation is not
            known.
    """
    source = WeightSource(path)
    return format_of(source, "clip").read(source, init_from=init_from, activation=activation)


def read_clip_weights(path, activation: Optional[str] = None) -> CLIPWeights:
    """The towers of :func:`read_clip`. A warning tells where languages had added something to them."""
    return _without_adapter(path, activation).weights


def _without_adapter(path, activation: Optional[str]) -> ClipCheckpoint:
    checkpoint = read_clip(path, activation=activation)
    if checkpoint.adapter is not None:
        logger.warning("%s: its towers are read without the adapters of its languages", path)
    return checkpoint


def read_clip_to_go_on(path, tokenizer: Tokenizer, activation: Optional[str] = None) -> CLIPWeights:
    """:func:`read_clip_weights`, for a training that cuts texts with `tokenizer`.

    Raises:
        UserError: its ids stand for something else than those that the CLIP was trained with.
    """
    checkpoint = _without_adapter(path, activation)
    state = {"vocabulary": checkpoint.vocabulary, "segmentation": checkpoint.segmentation}
    tokenizer_to_go_on(state, path, tokenizer)
    return checkpoint.weights


def _infer_text_config(source, text: Tensors, heads: Optional[int], activation: str) -> TextConfig:
    vocab_size, width = _shape(source, text, "token_embedding.weight", 2)
    return TextConfig(
        vocab_size=vocab_size,
        width=width,
        layers=count_layers(text, _LAYERS, source),
        heads=heads or width // 64,
        embed_dim=_shape(source, text, "text_projection", 2)[1],
        context_length=_shape(source, text, "positional_embedding", 2)[0],
        mlp_width=_shape(source, text, "transformer.resblocks.0.mlp.c_fc.weight", 2)[0],
        activation=activation,
    )


def _infer_vision_config(source, vision: Tensors, heads: Optional[int], activation: str) -> VisionConfig:
    width, _, _, patch_size = _shape(source, vision, "conv1.weight", 4)
    positions = _shape(source, vision, "positional_embedding", 2)[0]
    return VisionConfig(
        image_size=patch_size * round((positions - 1) ** 0.5),
        patch_size=patch_size,
        width=width,
        layers=count_layers(vision, _LAYERS, source),
        heads=heads or width // 64,
        embed_dim=_shape(source, vision, "proj", 2)[1],
        mlp_width=_shape(source, vision, "transformer.resblocks.0.mlp.c_fc.weight", 2)[0],
        activation=activation,
    )


def _shape(source, tensors: Tensors, name: str, dimensions: int) -> torch.Size:
    if name not in tensors:
        raise DataError("tensor is missing; this is no CLIP model with this tower", source, field=name)
    shape = tensors[name].shape
    if len(shape) != dimensions or 0 in shape:
        what = f"{len(shape)} dimensions, not {dimensions}" if 0 not in shape else f"no numbers, shape {list(shape)}"
        raise DataError(f"tensor has {what}", source, field=name)
    return shape
