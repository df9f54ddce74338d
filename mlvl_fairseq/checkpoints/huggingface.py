"""Tensors as Hugging Face keeps them: a safetensors file, or a folder with one, with several, or with what `torch.save`
wrote. What the tensors are is for the format to say."""

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List

import torch

from mlvl_fairseq.checkpoints.archive import verify_safetensors
from mlvl_fairseq.checkpoints.safe_loading import load_checkpoint_file
from mlvl_fairseq.checkpoints.source import Tensors, as_float32
from mlvl_fairseq.data.text import ClipTokenizer, Vocabulary, clip_vocabulary
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.files import require_file
from mlvl_fairseq.json_files import read_json

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
POSITION_IDS = ".position_ids"


def read_weights(path) -> Tensors:
    """The tensors of a folder, in one file or in those that its index names, or of one file, as float32; without the
    position indices that older exports store. The seal of our own files is verified.

    Raises:
        DataError: there are none, or a file of the index is missing, damaged, or lacks one of its tensors.
    """
    folder = Path(path)
    if not folder.is_dir():
        return _read_file(folder)
    name = next((name for name in WEIGHTS if (folder / name).exists()), WEIGHTS[0])
    if not name.endswith(".json"):
        return _read_file(folder / name)
    places, tensors = read_json(folder / name, _Index, "fetch it again").weight_map, {}
    for shard in sorted(set(places.values())):
        if Path(shard).name != shard:
            raise DataError(f"names {shard!r}, which is not in its folder", folder / name, field="weight_map")
        tensors.update(_read_file(folder / shard, f"{name} names it: fetch it"))
    for tensor, shard in places.items():
        if tensor not in tensors and not tensor.endswith(POSITION_IDS):
            raise DataError(f"lacks a tensor that {name} promises", folder / shard, field=tensor)
    return tensors


@dataclass
class _Index:
    weight_map: Dict[str, str]


def _read_file(path: Path, missing: str = "a Hugging Face folder has weights in it") -> Tensors:
    require_file(path, missing)
    tensors = _read_safetensors(path) if path.suffix == ".safetensors" else load_checkpoint_file(path)
    return as_float32({name: value for name, value in tensors.items() if not str(name).endswith(POSITION_IDS)}, path)


def _read_safetensors(path: Path) -> Dict[str, torch.Tensor]:
    from safetensors import safe_open

    verify_safetensors(path)
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}
    except Exception as error:  # SafetensorError, and what torch says of types it does not know
        raise DataError(f"is truncated or no safetensors file ({error}); fetch it again", path) from None


def read_added_tokens(folder: Path, rows: int) -> Dict[str, List[str]]:
    """What a folder's tokenizer has beyond CLIP's own vocabulary, see :meth:`Vocabulary.additions`; nothing where the
    folder has no tokenizer.

    Args:
        rows: of the token embedding beside it. Where they are as many as CLIP has tokens, the tokenizer is not read.

    Raises:
        DataError: ``vocab.json`` or ``merges.txt`` is damaged, or no growth of CLIP's.
    """
    base = clip_vocabulary()
    if rows == len(base) or not ClipTokenizer.detect(folder):
        return {"tokens": [], "merges": []}
    vocabulary = Vocabulary.load(folder)
    if vocabulary.tokens[: len(base)] != base.tokens or vocabulary.merges[: len(base.merges)] != base.merges:
        raise DataError("does not begin with CLIP's own tokens and merges", folder / "vocab.json")
    return vocabulary.additions(base)
