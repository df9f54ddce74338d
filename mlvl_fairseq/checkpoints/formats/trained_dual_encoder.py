"""Dual encoders that this plugin trained with fairseq: what such a file holds, without the weights of public files that
training kept frozen (see :mod:`mlvl_fairseq.networks.dual_encoder_files`).

The file says all else itself: towers and their dimensions, the preset, the transform of pictures (``cfg.model``), and
the tokenizer (``task_state``).
"""

from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Type, TypeVar

from torch import Tensor

from mlvl_fairseq.checkpoints.source import (
    Tensors,
    WeightFormat,
    WeightSource,
    as_float32,
    read_fingerprint,
    register_weight_format,
)
from mlvl_fairseq.data.text.base import Tokenizer, tokenizer_of_state
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.json_files import Count, Size, checked
from mlvl_fairseq.modules.expandable_embedding import apply_idle_decay

SIDES = ("visual_encoder.", "text_encoder.", "vision_proj.", "text_proj.")
FUSION = "fusion."  # of what else has these sides
LEFT_OUT = ("image", "text", "frozen")  # parts of the network that a file may leave out
Schema = TypeVar("Schema")


@dataclass
class _Task:
    tokenizer_folder: Optional[str] = None
    max_length: Optional[Size] = None
    eval_max_length: Optional[Count] = None
    max_words: Optional[Count] = None
    eval_max_words: Optional[Count] = None


@dataclass
class _Cfg:
    model: Dict[str, Any]
    task: Optional[_Task] = None


@dataclass
class _Content:
    """What such a file holds beside tensors, as far as it is read here."""

    cfg: _Cfg
    task_state: Dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DualEncoderFile:
    """What is in a file.

    Attributes:
        tensors: by their names in the network; those that training took from other files and kept frozen are not there.
        fingerprints: of what is not there, by part (:data:`LEFT_OUT`).
        max_length: tokens of a caption in evaluation; None: not known.
        languages: learned in sequence; empty: it was not trained so.
        source: the file.
    """

    tensors: Tensors
    fingerprints: Mapping[str, Tensor]
    max_length: Optional[int]
    languages: List[str]
    source: WeightSource
    content: _Content

    def options(self, schema: Type[Schema]) -> Schema:
        """The model's options. Raises DataError: one is not as the schema says."""
        return checked(self.content.cfg.model, schema, self.source.path, "cfg.model", "restore it from a good copy")

    @property
    def tokenizer_folder(self) -> Optional[str]:
        """Where the tokenizer was in training; None: it is in the file."""
        return (self.content.cfg.task or _Task()).tokenizer_folder

    @property
    def choices(self) -> List[str]:
        """Labels or answers that a head chooses from, in the order of its rows; none: there is no such head."""
        state = self.content.task_state
        name = next((name for name in ("answers", "classes") if state.get(name)), None)
        advice = "restore it from a good copy"
        return checked(state[name], List[str], self.source.path, f"task_state.{name}", advice) if name else []

    def tokenizer(self, folder=None) -> Tokenizer:
        """What cut the captions, those of validation where it differs.

        Args:
            folder: where it is now, if the file holds only which one it was.

        Raises:
            DataError: the file does not say it. UserError: it is not there, or another one.
        """
        tokenizer, task = tokenizer_of_state(self.content.task_state, self.source.path, folder), self.content.cfg.task
        words = task and (task.eval_max_words or task.max_words)
        return tokenizer.of_words(words) if words else tokenizer


@register_weight_format("dual_encoder", "checkpoint of a dual encoder trained with this plugin")
class TrainedDualEncoder(WeightFormat):
    is_ours = True

    def detect(self, source: WeightSource) -> bool:
        return self.has_sides(source) and not self.fuses(source)

    @staticmethod
    def has_sides(source: WeightSource) -> bool:
        return any(name.startswith(SIDES) for name in source.model())

    @staticmethod
    def fuses(source: WeightSource) -> bool:
        """Whether it has a fusion encoder, too."""
        return any(name.startswith(FUSION) for name in source.model())

    def read(self, source: WeightSource) -> DualEncoderFile:
        state, content = dict(source.model()), source.read(_Content)
        found = {part: read_fingerprint(state, f"{part}_fingerprint", source.path) for part in LEFT_OUT}
        _decay_idle_rows(state, source)
        others = ("language_state.", "continual.", *(f"{part}_fingerprint" for part in LEFT_OUT))
        tensors = {name: tensor for name, tensor in state.items() if not name.startswith(others)}
        task, state = content.cfg.task or _Task(), content.task_state
        languages = checked(state.get("languages") or [], List[str], source.path, "task_state.languages")
        return DualEncoderFile(
            tensors=as_float32(tensors, source.path),
            fingerprints={part: digest for part, digest in found.items() if digest is not None},
            max_length=task.eval_max_length or task.max_length,
            languages=languages,
            source=source,
            content=content,
        )


def _decay_idle_rows(state: Dict[str, Any], source: WeightSource) -> None:
    """Carry out what training of single rows of an embedding put off."""
    mark = ".trained_rows"
    try:
        for name in [name for name in state if name.endswith(mark)]:
            apply_idle_decay(state, name.removesuffix(mark[1:]))
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
        message = "do not fit the embedding; restore the file from a good copy"
        raise DataError(message, source.path, field=mark) from None
