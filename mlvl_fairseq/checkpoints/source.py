"""What is this file? A kind of file is a class under `register_weight_format`; `format_of` asks each of them.

Nothing in a file is ever executed: see :mod:`mlvl_fairseq.checkpoints.safe_loading`.
"""

import functools
import hashlib
import os
import zipfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Type, TypeVar

import torch

from mlvl_fairseq.checkpoints.archive import ZIP_MAGIC
from mlvl_fairseq.checkpoints.safe_loading import load_checkpoint_file
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.files import open_file, require_file
from mlvl_fairseq.json_files import checked
from mlvl_fairseq.registry import import_modules

Tensors = Dict[str, torch.Tensor]
Schema = TypeVar("Schema")
_REAL = {torch.half, torch.bfloat16, torch.float, torch.double, torch.bool}
_REAL |= {torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}
SHOWN = 8  # checkpoints in a folder that a message names
MAX_LAYERS = 1000  # of a tower; a module is built for each before anything is compared
LEGACY_TORCH_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # files of torch < 1.6: a pickled constant


class WeightSource:
    """A file or folder that formats are asked about; what they look at is read once.

    Args:
        path: of the file or folder.
        behind: the sources that name this one as the origin of their frozen weights, the first one first.

    Raises:
        DataError: nothing is there, or something that is neither a regular file nor a folder, or it is among `behind`.
    """

    def __init__(self, path, behind: Sequence["WeightSource"] = ()):
        self.path, self.behind = Path(path), tuple(behind)
        if not os.path.exists(self.path):
            raise DataError("no such file or folder; give a checkpoint", self.path)
        if not self.path.is_dir():
            require_file(self.path)
        if any(other.path.samefile(self.path) for other in self.behind):
            origins = " -> ".join(str(other.path) for other in (*self.behind, self))
            raise DataError(f"stands behind its own frozen weights ({origins}); say where they are", self.path)

    def origin(self, path) -> "WeightSource":
        """Where the weights are that this file left out."""
        return WeightSource(path, (*self.behind, self))

    @functools.cached_property
    def is_torchscript(self) -> bool:
        """Whether it is a TorchScript archive (plain `torch.save` has no constants)."""
        return any(entry.count("/") == 1 and entry.endswith("/constants.pkl") for entry in self._zip_entries)

    @functools.cached_property
    def state(self) -> Mapping[str, Any]:
        """The dictionary that `torch.save` put into the file, loaded safely; empty for every other kind of file.

        Raises:
            DataError: the file is damaged, or holds more than plain containers and tensors.
        """
        if self._magic == LEGACY_TORCH_MAGIC or (self._zip_entries and not self.is_torchscript):
            return load_checkpoint_file(self.path)
        return {}

    def model(self) -> Mapping[str, Any]:
        """The state dict of a checkpoint that fairseq's trainer wrote, empty for every other kind of file."""
        model = self.state.get("model") if "cfg" in self.state else None
        return checked(model, Dict[str, Any], self.path, "model") if isinstance(model, Mapping) else {}

    def read(self, schema: Type[Schema], advice: str = "restore it from a good copy") -> Schema:
        """What the state holds beside tensors, see :func:`mlvl_fairseq.json_files.checked`.

        Raises:
            DataError: it is not as the schema says.
        """
        return checked(self.state, schema, self.path, advice=advice)

    @functools.cached_property
    def _magic(self) -> bytes:
        if self.path.is_dir():
            return b""
        with open_file(self.path) as file:
            return file.read(len(LEGACY_TORCH_MAGIC))

    @functools.cached_property
    def _zip_entries(self) -> List[str]:
        if not self._magic.startswith(ZIP_MAGIC):
            return []
        try:
            with zipfile.ZipFile(self.path) as archive:
                return archive.namelist()
        except Exception as error:  # a damaged directory can fail in any way
            raise DataError(f"the file is truncated or damaged ({error}); fetch it again", self.path) from None


class WeightFormat(ABC):
    """One kind of file or folder with weights.

    Attributes:
        family: name of the network that it holds, see :mod:`mlvl_fairseq.networks`.
        description: for messages.
        is_ours: this plugin writes it. Such formats are asked first: most files are of them.
    """

    family: str
    description: str
    is_ours: bool = False

    @abstractmethod
    def detect(self, source: WeightSource) -> bool:
        """Whether the source is of this format, and of no other."""

    @abstractmethod
    def read(self, source: WeightSource, **frozen):
        """Read the weights.

        Args:
            frozen: where files are now that training kept frozen, by option name; those that are not given are where
                they were.

        Raises:
            DataError: the source is damaged or holds another model.
            UserError: a frozen file is not there, or not the one that belongs to it.
        """


FORMATS: Dict[str, WeightFormat] = {}


def register_weight_format(family: str, description: str) -> Callable[[Type[WeightFormat]], Type[WeightFormat]]:
    """Class decorator: make `format_of` recognise a format. Error messages list the description."""

    def register(cls: Type[WeightFormat]) -> Type[WeightFormat]:
        cls.family, cls.description = family, description
        FORMATS[description] = cls()
        return cls

    return register


def weight_formats() -> List[WeightFormat]:
    """Every format, those that this plugin writes first: every module of ``formats/`` is imported."""
    import_modules("mlvl_fairseq.checkpoints.formats")
    return sorted(FORMATS.values(), key=lambda one: (not one.is_ours, one.description))


def format_of(source: WeightSource, family: Optional[str] = None) -> WeightFormat:
    """The format of a source.

    Args:
        family: only this one will do; None: any.

    Raises:
        DataError: it is of no known format. UserError: it holds a network of another family.
    """
    formats = weight_formats()
    known = [one for one in formats if family in (None, one.family)]
    for one in known:
        if one.detect(source):
            return one
    other = next((one for one in formats if one not in known and one.detect(source)), None)
    if other is not None:
        raise UserError(f"{source.path} holds a model of the family '{other.family}', not '{family}'")
    held = _checkpoints_in(source.path)
    if held:
        listed = ", ".join(held[:SHOWN]) + (f", ... and {len(held) - SHOWN} more" if len(held) > SHOWN else "")
        raise DataError(f"is no model, but a folder that holds some; give one of them: {listed}", source.path)
    listed = "; ".join(sorted(one.description for one in known))
    wanted = f"{family.upper()} " if family else ""
    message = f"no {wanted}checkpoint of a known format; known are: {listed}"
    raise DataError(f"{message}; released files of other programs are converted first (mlvl-convert)", source.path)


def _checkpoints_in(folder: Path) -> List[str]:
    """The checkpoints in a folder, or in folders in it, by their paths from there; those of the best scores first."""
    found = [str(path.relative_to(folder)) for pattern in ("*.pt", "*/*.pt") for path in folder.glob(pattern)]
    return sorted(found, key=lambda path: (not path.endswith("checkpoint_best.pt"), path))


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


def read_fingerprint(model: Mapping[str, Any], name: str, path) -> Optional[torch.Tensor]:
    """What :func:`fingerprint_tensor` put into a state dict under `name`; None: nothing.

    Raises:
        DataError: it is something else.
    """
    found = model.get(name)
    if found is not None and not (
        isinstance(found, torch.Tensor) and found.dtype == torch.uint8 and found.shape == (32,)
    ):
        raise DataError("is no fingerprint (uint8 [32]); restore the file from a good copy", path, field=name)
    return found


def fill_in(
    tensors: Mapping[str, torch.Tensor], frozen: Mapping[str, torch.Tensor], expected, complaint: str, digest: str = ""
) -> Tensors:
    """The tensors of a checkpoint together with those that it left out because training kept them frozen.

    Args:
        tensors: of the checkpoint, by name. frozen: what was left out, by the same names.
        expected: uint8 [32], the fingerprint of what was left out, as the checkpoint has it; None: it has none.
        complaint: the error's message. digest: sha256 (hex) of `frozen`; empty: it is computed.

    Raises:
        UserError: `frozen` is not what was left out.
    """
    if expected is None or fingerprint_of(expected) != (digest or fingerprint(frozen)):
        raise UserError(complaint)
    return {**frozen, **tensors}


def take_prefix(tensors: Mapping[str, torch.Tensor], prefix: str) -> Tensors:
    """The tensors whose names start with `prefix`, named without it."""
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def add_prefix(tensors: Mapping[str, torch.Tensor], prefix: str) -> Tensors:
    """The inverse of :func:`take_prefix`."""
    return {prefix + name: tensor for name, tensor in tensors.items()}


def count_layers(names: Iterable[str], prefix: str, path) -> int:
    """How many layers ``<prefix><layer>.<...>`` a state dict names.

    Raises:
        DataError: more than any tower has.
    """
    layers = {name[len(prefix) :].partition(".")[0] for name in names if name.startswith(prefix)}
    if len(layers) > MAX_LAYERS:
        raise DataError(f"names {len(layers):,} layers, {prefix}*; no tower has so many", path)
    return len(layers)


def scalar(tensor: torch.Tensor, path, name: str = "logit_scale") -> torch.Tensor:
    """A tensor of one number, without dimensions.

    Raises:
        DataError: it has more or fewer, or is not finite.
    """
    if tensor.numel() != 1 or not torch.isfinite(tensor).all():
        raise DataError(f"is no finite number, but a tensor of shape {list(tensor.shape)}", path, field=name)
    return tensor.reshape(())


def as_float32(tensors: Mapping[str, Any], path) -> Tensors:
    """The tensors in float32.

    Raises:
        DataError: an entry is no tensor, or none of real numbers.
    """
    for name, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor):
            raise DataError(f"is a {type(tensor).__name__}, not a tensor", path, field=name)
        if tensor.dtype not in _REAL:
            raise DataError(f"is a tensor of {str(tensor.dtype).removeprefix('torch.')}", path, field=name)
    return {name: tensor.float() for name, tensor in tensors.items()}
