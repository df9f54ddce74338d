"""Checkpoints of task ``mte_pretraining``: all weights of a translating encoder but those that were frozen."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

import torch
from torch import Tensor

from mlvl_fairseq.checkpoints.formats.xlmr import MTE
from mlvl_fairseq.checkpoints.safe_loading import load_checkpoint_file
from mlvl_fairseq.checkpoints.source import Tensors, as_float32, fill_in, fingerprint, read_fingerprint
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.json_files import Sha256, checked

logger = logging.getLogger(__name__)

FINGERPRINT = "frozen_fingerprint"
TIED = ("decoder.embed_tokens.weight", "decoder.output_projection.weight")  # the encoder's embedding


@dataclass
class _TaskState:
    languages: List[str]
    dictionary: Optional[Sha256] = None  # earlier versions did not say it


@dataclass(frozen=True)
class MteState:
    """What a checkpoint holds.

    Attributes:
        tensors: by their names in `MteModel`.
        frozen_fingerprint: uint8 [32], sha256 of the encoder's tensors that are not among them; None: all are.
        source: the file.
    """

    tensors: Tensors
    frozen_fingerprint: Optional[Tensor]
    source: Path

    def complete(self, own: Mapping[str, Tensor], frozen: Sequence[str]) -> Tensors:
        """The tensors for a model whose present ones are `own`: what the checkpoint left out is taken from there.

        Args:
            own: all tensors of the model, as ``--xlmr`` made them.
            frozen: names of those among them that have to stay as they are.

        Raises:
            UserError: it lacks tensors or has others than the model, or was trained with other frozen weights.
        """
        missing = {name: tensor for name, tensor in own.items() if name not in self.tensors}
        for name, tensor in self.tensors.items():
            if name not in own:
                self._refuse(f"has {name}, which this model has not", "give the --arch it was trained with")
            if own[name].shape != tensor.shape:
                shapes = f"{list(tensor.shape)}, not {list(own[name].shape)}"
                self._refuse(f"has {name} of shape {shapes}", "give the --arch it was trained with")
            if name in frozen and not torch.equal(own[name], tensor):
                self._refuse(f"has trained {name}, frozen now", f"take the encoder from there: --xlmr {self.source}")
        if not missing:
            return self.tensors
        for name in missing:
            if self.frozen_fingerprint is None or not (name.startswith(MTE) or name in TIED):
                self._refuse(f"lacks {name}", "give the --arch it was trained with")
        digest = fingerprint({name: tensor for name, tensor in missing.items() if name.startswith(MTE)})
        complaint = self._said("left out other frozen weights than --xlmr has", "give the --xlmr it was trained with")
        return fill_in(self.tensors, missing, self.frozen_fingerprint, complaint, digest)

    def _refuse(self, what: str, advice: str) -> None:
        raise UserError(self._said(what, advice))

    def _said(self, what: str, advice: str) -> str:
        return f"--init-from {self.source} {what}: {advice}"


def read_mte(path, languages: Sequence[str], dictionary: str) -> MteState:
    """Read a checkpoint to start from; nothing in the file is executed.

    Args:
        languages: that the model translates between, in the order of their ids.
        dictionary: fingerprint of the data's, see :func:`mlvl_fairseq.data.text.dictionaries.symbols_fingerprint`.

    Raises:
        DataError: the file is missing, damaged, refused for its content, or of another task.
        UserError: it was trained with other languages, or another dictionary.
    """
    content = load_checkpoint_file(path)
    if not {"model", "task_state"} <= content.keys():
        raise DataError("is no checkpoint of task mte_pretraining", path)
    model = checked(content["model"], Dict[str, Any], path, "model")
    state = checked(content["task_state"], _TaskState, path, "task_state")
    given = state.languages
    if given != list(languages):
        before, now = ",".join(given), ",".join(languages)
        raise UserError(f"--init-from {path} was trained with languages {before}, not {now}: give --langs {before}")
    if state.dictionary is None:
        logger.warning("--init-from %s does not say which dict.txt it was trained with: the data's is taken", path)
    elif state.dictionary != dictionary:
        raise UserError(
            f"--init-from {path} was trained with another dictionary ({state.dictionary[:12]}) than the data's "
            f"({dictionary[:12]}): give fairseq-preprocess the same --srcdict"
        )
    tensors = {name: tensor for name, tensor in model.items() if name != FINGERPRINT}
    return MteState(as_float32(tensors, path), read_fingerprint(model, FINGERPRINT, path), Path(path))
