"""Checkpoints of task ``trikd``: projectors, temperature, and which frozen files belong to them."""

from dataclasses import dataclass
from typing import Any, Callable, Dict, Mapping, Optional, TypeVar

from torch import nn

from mlvl_fairseq.checkpoints.archive import save_checkpoint
from mlvl_fairseq.checkpoints.check import holding
from mlvl_fairseq.checkpoints.clip import QUICK_GELU
from mlvl_fairseq.checkpoints.source import (
    Tensors,
    WeightFormat,
    WeightSource,
    as_float32,
    count_layers,
    fingerprint,
    fingerprint_of,
    format_of,
    read_fingerprint,
    register_weight_format,
    scalar,
    take_prefix,
)
from mlvl_fairseq.data.images.transforms import CLIP_TRANSFORM, transform_names
from mlvl_fairseq.data.text.base import Tokenizer
from mlvl_fairseq.data.text.going_on import tokenizer_to_go_on
from mlvl_fairseq.data.text.sentencepiece import STATE
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.json_files import Size
from mlvl_fairseq.modules.x_projector import CProjector, XProjector

TRAINED = ("x_projector.", "c_projector.", "logit_scale")
FINGERPRINTS = {"mte": "mte_fingerprint", "clip": "clip_fingerprint"}
MARK = "x_projector.layers.0.fc1.weight"
Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class FrozenFiles:
    """Where the frozen parts of a model are; None: not known."""

    mte: Optional[str] = None
    clip: Optional[str] = None
    sentencepiece: Optional[str] = None
    activation: Optional[str] = None  # of the CLIP


@dataclass(frozen=True)
class TrikdWeights:
    """What a checkpoint holds.

    Attributes:
        tensors: by their names in `TrikdModel`, uint8 fingerprints of the frozen files among them.
        heads: attention heads of the X-projector.
        files: the frozen files, where they were in training.
        sentencepiece: fingerprint of the tokenizer, None: unknown.
        max_length: tokens of a caption, BOS and EOS included.
        source: the file read.
        transform: name of what cut the pictures.
    """

    tensors: Tensors
    heads: int
    files: FrozenFiles
    sentencepiece: Optional[str]
    max_length: int
    source: str
    transform: str = CLIP_TRANSFORM

    @property
    def fingerprint(self) -> str:
        """SHA-256 of trained weights and of the fingerprints of the frozen ones."""
        return fingerprint(self.tensors)

    def frozen_fingerprint(self, part: str) -> Optional[str]:
        """Of ``mte``, ``clip`` or ``sentencepiece``, hex; None: the model was trained without, or nobody noted it."""
        if part == "sentencepiece":
            return self.sentencepiece
        tensor = self.tensors.get(FINGERPRINTS[part])
        return None if tensor is None else fingerprint_of(tensor)

    def require(self, part: str, digest: str, source: str) -> None:
        """Raises UserError: a frozen file is not the one that the projectors were trained on."""
        expected = self.frozen_fingerprint(part)
        if expected is not None and digest != expected:
            raise UserError(
                f"{source} is not the {part} that {self.source} was trained on: say where that is, --{part}"
            )

    def require_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Raises UserError: a training that starts from here cuts texts by another one."""
        state = {STATE: self.sentencepiece} if self.sentencepiece else {}
        tokenizer_to_go_on(state, self.source, tokenizer, self.files.sentencepiece, "--init-projectors-from")

    def x_projector(self) -> XProjector:
        """In evaluation mode, with these very tensors."""
        width = self.tensors["c_projector.weight"].shape[0]
        ffn_width, layers = self.tensors[MARK].shape[0], _count_layers(self)
        return self.part("x_projector.", lambda: XProjector(width, ffn_width, self.heads, layers))

    def c_projector(self) -> CProjector:
        """In evaluation mode, with these very tensors."""
        width, clip_dim = self.tensors["c_projector.weight"].shape
        return self.part("c_projector.", lambda: CProjector(clip_dim, width))

    def part(self, prefix: str, make: Callable[[], Module]) -> Module:
        """What `make` builds, in evaluation mode, with the tensors of this prefix.

        Raises:
            DataError: they do not fit.
        """
        try:
            module = holding(make, take_prefix(self.tensors, prefix))
        except (ArithmeticError, RuntimeError, TypeError, ValueError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[-1].strip()
            raise DataError(f"its projectors do not fit together: {reason}", self.source) from None
        return module.eval()


def read_trikd(path, family: str = "trikd") -> TrikdWeights:
    """Read a checkpoint that ``fairseq-train`` or :func:`write_trikd` wrote.

    Args:
        family: of the projectors, a model of task trikd.

    Raises:
        DataError: the file is missing, damaged, or refused. UserError: it is of another family.
    """
    source = WeightSource(path)
    return format_of(source, family).read(source)


@register_weight_format("trikd", "checkpoint of task trikd")
class TrikdCheckpoint(WeightFormat):
    is_ours = True

    def detect(self, source: WeightSource) -> bool:
        return MARK in source.model()

    def read(self, source: WeightSource) -> TrikdWeights:
        return _read(source.model(), source)


@dataclass
class CommonOptions:
    """What such a file says of a model whose projectors are of any kind."""

    mte: Optional[str] = None
    clip: Optional[str] = None
    activation: Optional[str] = QUICK_GELU  # earlier versions knew no other
    transform: Optional[str] = CLIP_TRANSFORM


@dataclass
class _Options:
    encoder_attention_heads: Size


@dataclass
class _Task:
    sentencepiece: Optional[str] = None
    max_length: Optional[Size] = None


@dataclass
class _Cfg:
    model: _Options


@dataclass
class _Content:
    """What a file of TriKD says beside tensors, and others do not."""

    cfg: _Cfg


@dataclass
class _CommonCfg:
    model: CommonOptions
    task: Optional[_Task] = None


@dataclass
class _TaskState:
    sentencepiece: Optional[str] = None


@dataclass
class CommonContent:
    """What such a file holds beside tensors, as far as it is read here."""

    cfg: _CommonCfg
    task_state: Optional[_TaskState] = None


def _read(model: Mapping[str, Any], source: WeightSource) -> TrikdWeights:
    weights = TrikdWeights(heads=source.read(_Content).cfg.model.encoder_attention_heads, **common_parts(model, source))
    if "c_projector.weight" not in weights.tensors:
        raise DataError("has no C-projector", source.path)
    for name in ("c_projector.weight", MARK):
        if weights.tensors[name].dim() != 2:
            raise DataError("is no matrix", source.path, field=name)
    return weights


def common_parts(model: Mapping[str, Any], source: WeightSource) -> Dict[str, Any]:
    """What checkpoints of projectors of any kind hold: the fields of :class:`TrikdWeights` but `heads`.

    Raises:
        DataError: some of it is not there, or not as it should be.
    """
    path, content = source.path, source.read(CommonContent)
    options, task = content.cfg.model, content.cfg.task or _Task()
    tensors = as_float32({name: tensor for name, tensor in model.items() if name.startswith(TRAINED)}, path)
    fingerprints = {name: read_fingerprint(model, name, path) for name in FINGERPRINTS.values()}
    tensors.update({name: tensor for name, tensor in fingerprints.items() if tensor is not None})
    if FINGERPRINTS["mte"] not in tensors:
        raise DataError("has no fingerprint of its text encoder", path)
    transform = options.transform or CLIP_TRANSFORM
    if transform not in transform_names():
        reason = f"there is no image transform {transform!r}; there are: {', '.join(transform_names())}"
        raise DataError(reason, path, field="cfg.model.transform")
    if "logit_scale" not in tensors:
        raise DataError("tensor is missing", path, field="logit_scale")
    tensors["logit_scale"] = scalar(tensors["logit_scale"], path)
    return {
        "tensors": tensors,
        "files": FrozenFiles(options.mte, options.clip, task.sentencepiece, options.activation),
        "sentencepiece": (content.task_state or _TaskState()).sentencepiece,
        "max_length": task.max_length or 77,
        "source": str(path),
        "transform": transform,
    }


def write_trikd(weights: TrikdWeights, path) -> None:
    """Write a checkpoint to evaluate, or to start from with ``--init-projectors-from``.

    Raises:
        DataError: the file cannot be written.
    """
    content = {
        "cfg": {"model": _options(weights), "task": _task(weights)},
        "model": weights.tensors,
        "task_state": {"sentencepiece": weights.sentencepiece} if weights.sentencepiece else {},
    }
    save_checkpoint(content, path)


def _options(weights: TrikdWeights) -> Dict[str, Any]:
    width, clip_dim = weights.tensors["c_projector.weight"].shape
    return {
        "_name": "trikd",
        "mte": weights.files.mte,
        "clip": weights.files.clip,
        "activation": weights.files.activation,
        "encoder_layers": _count_layers(weights),
        "encoder_embed_dim": width,
        "encoder_ffn_embed_dim": weights.tensors[MARK].shape[0],
        "encoder_attention_heads": weights.heads,
        "transform": weights.transform,
    }


def _task(weights: TrikdWeights) -> Dict[str, Any]:
    return {"_name": "trikd", "sentencepiece": weights.files.sentencepiece, "max_length": weights.max_length}


def _count_layers(weights: TrikdWeights) -> int:
    return count_layers(weights.tensors, "x_projector.layers.", weights.source)
