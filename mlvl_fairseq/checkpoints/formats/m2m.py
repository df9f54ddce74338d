"""Checkpoints of model ``m2m``: linear layers, and which frozen files belong to them."""

from dataclasses import dataclass
from typing import Literal

from mlvl_fairseq.checkpoints.formats.trikd import TrikdWeights, common_parts
from mlvl_fairseq.checkpoints.source import (
    WeightFormat,
    WeightSource,
    count_layers,
    register_weight_format,
)
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.modules.sentence_map import SentenceMap, Unchanged

MARK = "x_projector.layers.0.weight"


@dataclass
class _Options:
    sentence: Literal["mean", "last"]


@dataclass
class _Cfg:
    model: _Options


@dataclass
class _Content:
    cfg: _Cfg


@dataclass(frozen=True)
class M2mWeights(TrikdWeights):
    """As :class:`TrikdWeights`; there is no attention, and no C-projector.

    Attributes:
        sentence: see :class:`SentenceMap`.
    """

    sentence: str = "mean"

    def x_projector(self) -> SentenceMap:
        """In evaluation mode, with these very tensors."""
        layers = count_layers(self.tensors, "x_projector.layers.", self.source)
        if self.tensors[MARK].dim() != 2:
            raise DataError("is no matrix", self.source, field=MARK)
        dim, width = self.tensors[MARK].shape
        return self.part("x_projector.", lambda: SentenceMap(width, dim, layers, self.sentence))

    def c_projector(self) -> Unchanged:
        return Unchanged(len(self.tensors[MARK]))


@register_weight_format("m2m", "checkpoint of model m2m, task trikd")
class M2mCheckpoint(WeightFormat):
    is_ours = True

    def detect(self, source: WeightSource) -> bool:
        return MARK in source.model()

    def read(self, source: WeightSource) -> M2mWeights:
        options = source.read(_Content).cfg.model
        return M2mWeights(heads=0, sentence=options.sentence, **common_parts(source.model(), source))
