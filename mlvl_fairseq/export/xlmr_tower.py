"""fairseq's XLM-R as the plain tower that other programs know, with the X-projector as its last layers."""

from dataclasses import replace
from typing import TYPE_CHECKING, Optional

from mlvl_fairseq.checkpoints.check import holding
from mlvl_fairseq.checkpoints.source import Tensors, add_prefix
from mlvl_fairseq.checkpoints.towers.bert import as_bert
from mlvl_fairseq.modules.towers.bert import XlmrTower, XlmrTowerConfig
from mlvl_fairseq.modules.towers.xlmr import XlmrEncoder
from mlvl_fairseq.modules.x_projector import XProjector

if TYPE_CHECKING:
    from mlvl_fairseq.inference import Encoder


def plain_tower(encoder: XlmrEncoder, projector: Optional[XProjector] = None) -> XlmrTower:
    """A tower that holds an encoder's tensors, and behind them those of an X-projector, whose layers are of the same
    kind; see :func:`unfit_projector`. Its states are the encoder's or the projector's."""
    tensors: Tensors = {name: tensor for name, tensor in encoder.state_dict().items() if name != "version"}
    config, layers = plain_config(encoder), encoder.config.layers
    if projector is not None:
        for number, layer in enumerate(projector.layers, layers):
            tensors.update(add_prefix(layer.state_dict(), f"layers.{number}."))
        config = replace(config, layers=layers + len(projector.layers))
    tower = holding(config.build, as_bert(tensors)).eval()
    tower.keeps_states = True
    return tower


def plain_config(encoder: XlmrEncoder) -> XlmrTowerConfig:
    """The dimensions of an encoder as those of a tower."""
    own = encoder.config
    names = ("vocab_size", "width", "layers", "heads", "ffn_width", "max_positions")
    return XlmrTowerConfig(**{name: getattr(own, name) for name in names})


def unfit_projector(encoder: "Encoder") -> Optional[str]:
    """Why the X-projector of a TriKD is no further layers of its text encoder, in words; None: it is."""
    xlmr, layer = encoder.network.mte.config, encoder.network.x_projector.layers[0]
    own_sizes, sizes = (layer.self_attn.heads, layer.fc1.out_features), (xlmr.heads, xlmr.ffn_width)
    for name, own, given in zip(("attention heads", "inner width"), own_sizes, sizes):
        if own != given:
            return f"its X-projector has {name} {own} and its text encoder {given}: they are no layers of one kind"
    return None
