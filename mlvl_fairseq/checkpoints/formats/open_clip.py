"""CLIP as open_clip keeps it for ``local-dir:``: a folder with ``open_clip_config.json``, its weights under OpenAI's
names in safetensors, and a tokenizer of `transformers`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

import torch

from mlvl_fairseq.checkpoints.archive import save_safetensors
from mlvl_fairseq.checkpoints.clip import QUICK_GELU, ClipCheckpoint, CLIPWeights, the_activation
from mlvl_fairseq.checkpoints.huggingface import read_added_tokens, read_weights
from mlvl_fairseq.checkpoints.source import (
    WeightFormat,
    WeightSource,
    add_prefix,
    register_weight_format,
    take_prefix,
)
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.files import write_json
from mlvl_fairseq.json_files import Size, read_json

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
END_OF_TEXT = 49407
HEAD_WIDTH = 64  # of a vision transformer, where nothing is said


@dataclass
class _Text:
    heads: Optional[Size] = None


@dataclass
class _Vision:
    width: Optional[Size] = None
    head_width: Size = HEAD_WIDTH


@dataclass
class _Model:
    quick_gelu: bool = False
    text_cfg: _Text = field(default_factory=_Text)
    vision_cfg: _Vision = field(default_factory=_Vision)


@dataclass
class _Config:
    model_cfg: _Model
    mlvl_fairseq: Dict[str, List[str]] = field(default_factory=dict)

    @property
    def activation(self) -> str:
        """Its own default is GELU."""
        return QUICK_GELU if self.model_cfg.quick_gelu else "gelu"


def read_config(folder: Path) -> _Config:
    """Raises DataError: it is damaged or missing."""
    return read_json(folder / CONFIG, _Config, "fetch it again")


@register_weight_format("clip", f"open_clip folder ({CONFIG} and {WEIGHTS})")
class OpenClipFolder(WeightFormat):
    def detect(self, source: WeightSource) -> bool:
        is_others = (source.path / "config.json").exists()  # with both, it is Hugging Face's, too, which is the same
        return (
            source.path.is_dir() and not is_others and all((source.path / name).exists() for name in (CONFIG, WEIGHTS))
        )

    def read(self, source: WeightSource, init_from=None, activation=None) -> ClipCheckpoint:
        path, config = source.path / WEIGHTS, read_config(source.path)
        tensors, model = read_weights(path), config.model_cfg
        if "token_embedding.weight" not in tensors:
            raise DataError("holds no text tower of OpenAI's CLIP; towers of other kinds are not read", path)
        scale = tensors.pop("logit_scale", None)
        width = model.vision_cfg.width
        weights = CLIPWeights.from_tensors(
            path,
            {name: tensor for name, tensor in tensors.items() if not name.startswith("visual.")},
            take_prefix(tensors, "visual."),
            scale,
            model.text_cfg.heads,
            width and max(1, width // model.vision_cfg.head_width),
            the_activation(config.activation, activation, path),
        )
        vocabulary = read_added_tokens(source.path, weights.text_config.vocab_size)
        return ClipCheckpoint(weights, vocabulary=vocabulary, languages=config.mlvl_fairseq.get("languages", []))


def write_open_clip(weights: CLIPWeights, folder: Path, preprocessing: Mapping[str, Any], languages: List[str]) -> None:
    """Write weights as ``open_clip.create_model_and_transforms("local-dir:FOLDER")`` loads them; the tokenizer's files
    belong beside them.

    Args:
        weights: of both towers. preprocessing: open_clip's ``preprocess_cfg``. languages: learned in sequence.

    Raises:
        DataError: a file cannot be written.
    """
    tensors = {**weights.text, **add_prefix(weights.vision, "visual.")}
    tensors["logit_scale"] = torch.tensor(weights.logit_scale)
    save_safetensors(tensors, folder / WEIGHTS)
    content = {"model_cfg": _model(weights), "preprocess_cfg": preprocessing}
    write_json(folder / CONFIG, {**content, "mlvl_fairseq": {"languages": languages}})


def _model(weights: CLIPWeights) -> Dict[str, Any]:
    text, vision = weights.text_config, weights.vision_config
    return {
        "embed_dim": text.embed_dim,
        "quick_gelu": text.activation == QUICK_GELU,
        "vision_cfg": {
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "width": vision.width,
            "layers": vision.layers,
            "head_width": vision.width // vision.heads,
            "mlp_ratio": vision.mlp_width / vision.width,
        },
        "text_cfg": {
            "context_length": text.context_length,
            "vocab_size": text.vocab_size,
            "width": text.width,
            "heads": text.heads,
            "layers": text.layers,
            "mlp_ratio": text.mlp_width / text.width,
            "pool_type": "eos",  # at the first end of text, as we do, and not at the largest id
            "eos_id": END_OF_TEXT,
            "hf_tokenizer_name": "clip",  # open_clip takes the files beside instead, whatever stands here
        },
    }
