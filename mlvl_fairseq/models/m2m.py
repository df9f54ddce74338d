"""Model ``m2m`` of fairseq, for task ``trikd``: only linear layers train and are saved. The network is
:mod:`mlvl_fairseq.networks.m2m`."""

from fairseq.models import register_model

from mlvl_fairseq.models._architectures import register_architectures
from mlvl_fairseq.models.trikd import TrikdModel, TrikdTrainingOptions
from mlvl_fairseq.modules.chunking import ChunkOptions
from mlvl_fairseq.modules.compiling import ComputingOptions
from mlvl_fairseq.networks import m2m as network
from mlvl_fairseq.options import with_options

M2mConfig = with_options(TrikdTrainingOptions, [network.M2mOptions, ChunkOptions, ComputingOptions])


@register_model("m2m", dataclass=M2mConfig)
class M2mModel(network.M2mNetwork, TrikdModel):
    """Built, saved and started from as TriKD's projectors are."""


register_architectures("m2m", network.ARCHITECTURES)
