"""Frozen weights stay out of checkpoints: their fingerprint stands for them."""

from dataclasses import dataclass
from typing import Dict, List, Sequence, Tuple

import torch
from torch import Tensor

from mlvl_fairseq.checkpoints.source import fingerprint_tensor
from mlvl_fairseq.errors import UserError


@dataclass(frozen=True)
class LeftOut:
    """Tensors of a model that a file holds.

    Attributes:
        buffer: name of the buffer with the file's fingerprint.
        names: of the tensors.
        where: see :meth:`LeavesOutFrozen.leave_out`.
    """

    buffer: str
    names: List[str]
    where: str


class LeavesOutFrozen:
    """Mixin in front of a fairseq model. The tensors named to :meth:`leave_out` are not in its ``state_dict``; a model
    calls :meth:`fill_in` from ``upgrade_state_dict_named``, before its checkpoint is loaded."""

    left_out: Tuple[LeftOut, ...] = ()

    @property
    def frozen_names(self) -> List[str]:
        """Names of the tensors that checkpoints do without."""
        return [name for part in self.left_out for name in part.names]

    def leave_out(self, part: str, names: Sequence[str], digest: str, where: str) -> None:
        """Keep tensors out of checkpoints.

        Args:
            part: what they are; the buffer is called ``<part>_fingerprint``.
            names: of the tensors; none: the model does not even hold them, but depends on them.
            digest: sha256 (hex) of the weights.
            where: the options that decide about them and a verb, to be read in a message after "than".
        """
        buffer = f"{part}_fingerprint"
        self.register_buffer(buffer, fingerprint_tensor(digest))
        self.left_out = (*self.left_out, LeftOut(buffer, list(names), where))

    def state_dict(self, *args, **kwargs):
        state = super().state_dict(*args, **kwargs)
        for name in self.frozen_names:
            del state[kwargs.get("prefix", "") + name]
        return state

    def fill_in(self, state: Dict[str, Tensor], prefix: str) -> None:
        """Put this model's own frozen tensors into a checkpoint's state.

        Raises:
            UserError: the checkpoint was trained on others.
        """
        own = super().state_dict() if self.left_out else {}
        for part in self.left_out:
            given = state.get(prefix + part.buffer)
            if given is None or not torch.equal(given.cpu(), getattr(self, part.buffer).cpu()):
                raise UserError(f"the checkpoint was trained on other frozen weights than {part.where}")
            state.update({prefix + name: own[name] for name in part.names})
