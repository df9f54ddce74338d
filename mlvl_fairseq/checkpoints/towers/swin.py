"""Swin as torchvision publishes it."""

import torch

from mlvl_fairseq.checkpoints.source import Tensors, WeightSource
from mlvl_fairseq.checkpoints.towers.base import register_tower_weights
from mlvl_fairseq.checkpoints.towers.public import public_tensors
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.modules.towers.swin import SwinConfig

INDEX = ".relative_position_index"  # which row of a table belongs to a pair of patches; follows from the window


@register_tower_weights(SwinConfig, of_classifiers=True)
def read_swin(source: WeightSource, config: SwinConfig) -> Tensors:
    """Tables of relative positions are those of a window, so that pictures may have any size."""
    tensors, index = public_tensors(source), _index(config.window)
    for name, tensor in tensors.items():
        if name.endswith(INDEX) and not torch.equal(tensor, index.float()):
            message = f"is not that of windows of {config.window} x {config.window}; choose the window of this file"
            raise DataError(message, source.path, field=name)
    return {name: index if name.endswith(INDEX) else tensor for name, tensor in tensors.items()}


def _index(window: int) -> torch.Tensor:
    """int64 [window^4]: row ``(2 window - 1) (dy + window - 1) + dx + window - 1`` for two patches (dy, dx) apart."""
    y, x = torch.arange(window).repeat_interleave(window), torch.arange(window).repeat(window)
    rows = (y[:, None] - y + window - 1) * (2 * window - 1) + x[:, None] - x + window - 1
    return rows.flatten()
