"""Checkpoints of model ``m2m``: linear layers, and which frozen files belong to them."""

from dataclasses import dataclass
from typing import Literal

from mlvl_fairseq.checkpoints.check import holding
from mlvl_fairseq.checkpoints.formats.trikd import TrikdWeights, common_parts
from mlvl_fairseq.checkpoints.source import (
    WeightFormat,
    WeightSource,
    count_layers,
    register_weight_format,
    take_prefix,
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
        own = take_prefix(self.tensors, "x_projector.")
        if own["layers.0.weight"].dim() != 2:
            raise DataError("is no matrix", self.source, field=MARK)
        dim, width = own["layers.0.weight"].shape
        try:
            module = holding(lambda: SentenceMap(width, dim, layers, self.sentence), own)
        except (RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[-1].strip()
            raise DataError(f"its linear layers do not fit together: {reason}", self.source) from None
        return module.eval()

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
