"""What files of image classifiers have in common: who published them kept tensors in one of three ways, and a head."""

import logging
from typing import Any, Dict, Mapping

from mlvl_fairseq.checkpoints.huggingface import read_weights
from mlvl_fairseq.checkpoints.source import Tensors, WeightSource, as_float32
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.json_files import checked

logger = logging.getLogger(__name__)
HEAD = "head."


def public_tensors(source: WeightSource) -> Tensors:
    """All tensors but those of the classifier, as float32. The file is one of `torch.save` with tensors or with a
    ``model`` that has them, a safetensors file, or a folder of Hugging Face's layout.

    Raises:
        DataError: the file is damaged, refused for its content, or of another kind.
    """
    if source.path.is_dir() or source.path.suffix == ".safetensors":
        tensors = read_weights(source.path)
    else:
        state = source.state
        if not state:
            raise DataError("is no file of torch.save with weights; give the .pth or .safetensors file", source.path)
        if isinstance(state.get("model"), Mapping):
            state = state["model"]
        tensors = as_float32(checked(state, Dict[str, Any], source.path), source.path)
    head = sorted(name for name in tensors if name.startswith(HEAD))
    if head:
        logger.info("%s: its classifier is left out (%s)", source.path, ", ".join(head))
    return {name: tensor for name, tensor in tensors.items() if name not in head}
