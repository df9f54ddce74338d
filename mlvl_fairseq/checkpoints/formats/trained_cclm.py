"""CCLMs that this plugin trained with fairseq: dual encoders with a fusion encoder and heads (see
:mod:`mlvl_fairseq.networks.cclm_files`)."""

from mlvl_fairseq.checkpoints.formats.trained_dual_encoder import TrainedDualEncoder
from mlvl_fairseq.checkpoints.source import WeightSource, register_weight_format


@register_weight_format("cclm", "checkpoint of a CCLM trained with this plugin")
class TrainedCclm(TrainedDualEncoder):
    def detect(self, source: WeightSource) -> bool:
        return self.has_sides(source) and self.fuses(source)
