"""What our models share: frozen weights that their fingerprint stands for in checkpoints."""

from dataclasses import dataclass
from typing import Collection, Dict, List, Mapping, Sequence, Tuple

from torch import Tensor

from mlvl_fairseq.checkpoints.source import fill_in, fingerprint, fingerprint_of, fingerprint_tensor
from mlvl_fairseq.errors import UserError

LEFT_OUT = ("frozen_fingerprint", "image_fingerprint", "text_fingerprint")  # of what an option may name


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
    """Mixin in front of a fairseq model: the tensors named to :meth:`leave_out` are not in its ``state_dict``, and come
    back before a checkpoint is loaded.

    Attributes:
        origin_option: the option that says where such tensors are from.
    """

    left_out: Tuple[LeftOut, ...] = ()
    origin_option = "--init-from"

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

    def leave_out_frozen(self, given: Mapping[str, Sequence[str]], frozen: Collection[str], parts: Mapping) -> None:
        """:meth:`leave_out` what came from files and does not train.

        Args:
            given: option -> names of the parameters that are of its file. frozen: names of parameters.
            parts: option -> what its file is.
        """
        for option, names in given.items():
            own = {name: weight for name, weight in self.named_parameters() if name in names and name in frozen}
            if own:
                where = f"--{option.replace('_', '-')} holds, or with another --preset or --trainable"
                self.leave_out(parts[option], list(own), fingerprint(own), where)

    def leave_out_module(self, module: str, digest: str, where: str, part: str = "") -> None:
        """:meth:`leave_out` a frozen module, which need not be there; `part`: by default its name."""
        own = getattr(self, module)
        names = [] if own is None else [f"{module}.{inner}" for inner in own.state_dict()]
        self.leave_out(part or module, names, digest, where)

    def state_dict(self, *args, **kwargs):
        state = super().state_dict(*args, **kwargs)
        for name in self.frozen_names:
            del state[kwargs.get("prefix", "") + name]
        return state

    def upgrade_state_dict_named(self, state: Dict[str, Tensor], name: str) -> None:
        """Put this model's own frozen tensors into a checkpoint's state.

        Raises:
            UserError: the checkpoint was trained on others, or it leaves out some and this model has none.
        """
        prefix = f"{name}." if name else ""
        known = {part.buffer for part in self.left_out}
        if any(prefix + buffer in state for buffer in set(LEFT_OUT) - known):
            raise UserError(f"the checkpoint leaves out frozen weights: say with {self.origin_option} where they are")
        own = super().state_dict() if self.left_out else {}
        for part in self.left_out:
            frozen = {prefix + inner: own[inner] for inner in part.names}
            complaint = f"the checkpoint was trained on other frozen weights than {part.where}"
            digest = fingerprint_of(getattr(self, part.buffer))
            state.update(fill_in(state, frozen, state.get(prefix + part.buffer), complaint, digest))
        super().upgrade_state_dict_named(state, name)
