"""The released checkpoints of mCLIP (Chen et al. 2023), ``mclip_base.pt`` and ``mclip_plus_base.pt``.

They hold the projectors together with the frozen encoders; here each becomes a file of its own.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Mapping, Optional

import torch

from mlvl_fairseq.checkpoints.archive import save_checkpoint
from mlvl_fairseq.checkpoints.clip import read_clip_weights
from mlvl_fairseq.checkpoints.formats.trikd import FINGERPRINTS, FrozenFiles, TrikdWeights, write_trikd
from mlvl_fairseq.checkpoints.formats.xlmr import XlmrOptions, model_options, read_xlmr, write_xlmr, xlmr_from_state
from mlvl_fairseq.checkpoints.source import (
    Tensors,
    WeightSource,
    as_float32,
    fingerprint_tensor,
    take_prefix,
)
from mlvl_fairseq.data.text.sentencepiece import SentencePieceTokenizer
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.json_files import checked
from mlvl_fairseq.modules.heads import new_logit_scale

C_PROJECTOR = ("encoder.dim_proj.weight", "encoder.c_projector.weight")
X_PROJECTOR = ("encoder.encoder_adapter.", "encoder.x_projector.")
XLMR = "encoder.xlmr.model.encoder.sentence_encoder."
CLIP = "encoder.clip."
MAX_LENGTH = 78  # 76 pieces and two special tokens
HEAD_WIDTH = 64  # of XLM-R and of the X-projector, where the file does not say how many heads there are


@dataclass(frozen=True)
class MclipFile:
    """A released checkpoint.

    Attributes:
        model: its state dict. projectors: by their names in `TrikdModel`. heads: attention heads of both encoders.
        source: the file.
    """

    model: Mapping[str, Any]
    projectors: Tensors
    heads: int
    source: Path


def read_mclip(path) -> MclipFile:
    """Read a released checkpoint; nothing in the file is executed.

    Raises:
        DataError: the file is missing, damaged, refused for its content, or of another layout.
    """
    content = WeightSource(path).state
    if not isinstance(content.get("model"), Mapping):
        raise DataError("is missing or no dictionary; give mclip_base.pt or mclip_plus_base.pt", path, field="model")
    model = checked(content["model"], Dict[str, Any], path, "model")
    c_projector = next((model[name] for name in C_PROJECTOR if name in model), None)
    layers = next(filter(None, (take_prefix(model, prefix) for prefix in X_PROJECTOR)), None)
    if c_projector is None or layers is None:
        raise DataError(f"holds no projectors of mCLIP ({C_PROJECTOR[0]}, {X_PROJECTOR[0]}*)", path)
    tensors = {f"x_projector.layers.{name}": tensor for name, tensor in layers.items()}
    tensors = as_float32({**tensors, "c_projector.weight": c_projector}, path)
    if tensors["c_projector.weight"].dim() != 2:
        raise DataError("is no matrix", path, field=C_PROJECTOR[0])
    heads = model_options(content, path).encoder_attention_heads or max(1, len(c_projector) // HEAD_WIDTH)
    projectors = {**tensors, "logit_scale": _logit_scale(content, path)}
    return MclipFile(model, projectors, heads, Path(path))


def _logit_scale(content: Mapping[str, Any], path) -> torch.Tensor:
    """The criterion's only number, as fairseq saves it; where it was not kept, that of the start of training."""
    criterion = checked(content.get("criterion"), Optional[Dict[str, Any]], path, "criterion") or {}
    numbers = [value for value in criterion.values() if isinstance(value, torch.Tensor)]
    return numbers[0].float().reshape(()) if len(numbers) == 1 and numbers[0].numel() == 1 else new_logit_scale().data


def convert_mclip(
    path,
    folder,
    sentencepiece,
    mte: Optional[str] = None,
    clip: Optional[str] = None,
    activation: Optional[str] = None,
) -> Path:
    """Write ``trikd.pt`` and, unless they are given or not in the file, ``mte.pt`` and ``clip.pt``.

    Args:
        path: the released checkpoint. folder: made if it is not there.
        sentencepiece: XLM-R's folder.
        mte, clip: frozen encoders that are to be used instead of the file's own ones.
        activation: of `clip`, where its file does not say it.

    Returns:
        the path of ``trikd.pt``.

    Raises:
        DataError: the file is no such checkpoint, or something in it does not fit.
        UserError: the file lacks an encoder that was not given either, or encoder and dictionary do not fit together.
    """
    file, folder, tokenizer = read_mclip(path), Path(folder), SentencePieceTokenizer(sentencepiece)
    folder.mkdir(parents=True, exist_ok=True)
    mte = mte or _write_mte(file, folder / "mte.pt")
    clip = clip or _write_clip(file, folder / "clip.pt")
    xlmr = read_xlmr(mte)
    xlmr.require_vocabulary(len(tokenizer.dictionary))
    digests = {"mte": xlmr.fingerprint, "clip": read_clip_weights(clip, activation).fingerprint}
    fingerprints = {FINGERPRINTS[part]: fingerprint_tensor(digest) for part, digest in digests.items()}
    weights = TrikdWeights(
        tensors={**file.projectors, **fingerprints},
        heads=file.heads,
        files=FrozenFiles(str(mte), str(clip), str(sentencepiece), activation),
        sentencepiece=tokenizer.fingerprint,
        max_length=MAX_LENGTH,
        source=str(path),
        transform="mclip",
    )
    weights.x_projector(), weights.c_projector()  # do they fit?
    write_trikd(weights, folder / "trikd.pt")
    return folder / "trikd.pt"


def _write_mte(file: MclipFile, path: Path) -> Path:
    if not any(name.startswith(XLMR) for name in file.model):
        raise UserError(f"{file.source} holds no text encoder: give it with --mte")
    write_xlmr(xlmr_from_state(file.model, XLMR, XlmrOptions(file.heads), file.source), path)
    return path


def _write_clip(file: MclipFile, path: Path) -> Path:
    tensors = take_prefix(file.model, CLIP)
    if not tensors:
        raise UserError(f"{file.source} holds no CLIP: give it with --clip")
    sizes = {"context_length": torch.tensor(len(tensors.get("positional_embedding", ())))}  # says: this is OpenAI's
    save_checkpoint({**as_float32(tensors, file.source), **sizes}, path)
    return path
