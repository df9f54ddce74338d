"""EfficientNet-Lite0 as efficientnet_pytorch and timm (``tf_efficientnet_lite0``) name it."""

import logging
import re

from mlvl_fairseq.checkpoints.source import Tensors, WeightSource
from mlvl_fairseq.checkpoints.towers.base import register_tower_weights
from mlvl_fairseq.checkpoints.towers.public import public_tensors
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.modules.towers.efficientnet_lite import STAGES, EfficientNetLiteConfig

logger = logging.getLogger(__name__)
CLASSIFIERS = ("_fc.", "classifier.")
COUNTER = ".num_batches_tracked"  # of batch normalisation, which does not train
OUTER = {"conv_stem.": "_conv_stem.", "bn1.": "_bn0.", "conv_head.": "_conv_head.", "bn2.": "_bn1."}
PLAIN = {"conv_dw.": "_depthwise_conv.", "bn1.": "_bn1.", "conv_pw.": "_project_conv.", "bn2.": "_bn2."}  # not widened
WIDENED = {"conv_pw.": "_expand_conv.", "bn1.": "_bn0.", "conv_dw.": "_depthwise_conv.", "bn2.": "_bn1.",
           "conv_pwl.": "_project_conv.", "bn3.": "_bn2."}  # fmt: skip


@register_tower_weights(EfficientNetLiteConfig)
def read_efficientnet_lite(source: WeightSource, config: EfficientNetLiteConfig) -> Tensors:
    """Any size of pictures will do: nothing in the tower depends on it."""
    tensors = {name: one for name, one in public_tensors(source).items() if not name.endswith(COUNTER)}
    if "conv_stem.weight" in tensors:
        tensors = {_renamed(name, source.path): one for name, one in tensors.items()}
    classifier = sorted(name for name in tensors if name.startswith(CLASSIFIERS))
    if classifier:
        logger.info("%s: its classifier is left out (%s)", source.path, ", ".join(classifier))
    return {name: one for name, one in tensors.items() if name not in classifier}


def _renamed(name: str, path) -> str:
    """timm's name as efficientnet_pytorch's; timm counts blocks within their stage."""
    part = re.fullmatch(r"blocks\.(\d)\.(\d)\.(.+)", name)
    if part is None:
        return _with_start(name, OUTER)
    stage, block = int(part[1]), int(part[2])
    if stage >= len(STAGES):
        raise DataError("is of no stage of an EfficientNet-Lite0; give the file of one", path, field=name)
    number = sum(blocks for blocks, *_ in STAGES[:stage]) + block
    return f"_blocks.{number}.{_with_start(part[3], PLAIN if stage == 0 else WIDENED)}"


def _with_start(name: str, starts: dict) -> str:
    return next((new + name.removeprefix(old) for old, new in starts.items() if name.startswith(old)), name)
