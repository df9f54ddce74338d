"""Swin as torchvision, Microsoft (Liu et al. 2021) and timm publish it."""

import logging
import re

import torch

from mlvl_fairseq.checkpoints.source import Tensors, WeightSource
from mlvl_fairseq.checkpoints.towers.base import register_resizing, register_tower_weights
from mlvl_fairseq.checkpoints.towers.public import public_tensors
from mlvl_fairseq.checkpoints.towers.relative_positions import resize_relative, window_of
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.modules.towers.swin import SwinConfig

logger = logging.getLogger(__name__)
TABLE = ".relative_position_bias_table"
INDEX = ".relative_position_index"  # which row of a table belongs to a pair of patches; follows from the window
MASK = ".attn_mask"  # which pairs of patches a shifted window keeps apart; follows from the picture's size
PUBLISHED = "patch_embed."  # before names of Microsoft's and timm's
FIRST_MERGING = "layers.0.downsample."  # Microsoft's: behind the blocks of a stage; timm has it before the next one's
OUTER = {"patch_embed.proj.": "features.0.0.", "patch_embed.norm.": "features.0.2."}
INNER = {"mlp.fc1.": "mlp.0.", "mlp.fc2.": "mlp.3."}


@register_tower_weights(SwinConfig, of_classifiers=True)
def read_swin(source: WeightSource, config: SwinConfig) -> Tensors:
    """Tables of relative positions are resampled where the tower has another window."""
    tensors, path = public_tensors(source), source.path
    if any(name.startswith(PUBLISHED) for name in tensors):
        tensors = torchvision_names(tensors)
    for name, tensor in tensors.items():
        table = tensors.get(name.removesuffix(INDEX) + TABLE) if name.endswith(INDEX) else None
        window = None if table is None else window_of(table, path, name)
        if window and not torch.equal(tensor.flatten(), _index(window).float()):
            raise DataError(f"is not that of windows of {window} x {window}; fetch the file again", path, field=name)
    return with_window(tensors, config, path)


def torchvision_names(tensors: Tensors) -> Tensors:
    """Microsoft's and timm's names as torchvision's; the first ones' buffers, which follow from the window and the
    picture's size, are left out."""
    ahead = 0 if any(name.startswith(FIRST_MERGING) for name in tensors) else 1
    found = {}
    for name, tensor in tensors.items():
        if name.endswith((INDEX, MASK)):
            continue
        for old, new in OUTER.items():
            name = new + name[len(old) :] if name.startswith(old) else name
        part = re.fullmatch(r"layers\.(\d{1,3})\.(?:blocks\.(\d{1,3})|downsample)\.(.+)", name)
        if part and part[2]:
            inner = next((new + part[3][len(old) :] for old, new in INNER.items() if part[3].startswith(old)), part[3])
            name = f"features.{2 * int(part[1]) + 1}.{part[2]}.{inner}"
        elif part:
            name = f"features.{2 * (int(part[1]) - ahead) + 2}.{part[3]}"
        found[name] = tensor
    return found


@register_resizing(SwinConfig)
def with_window(tensors: Tensors, config: SwinConfig, path) -> Tensors:
    """With tables of the window of `config`, and indices that belong to them.

    Raises:
        DataError: a table is none of a window, or of one too small to resample it.
    """
    found, windows = {}, set()
    for name, tensor in tensors.items():
        if name.endswith(TABLE):
            windows.add(window_of(tensor, path, name))
            found[name] = resize_relative(tensor, config.window, path, name)
            found[name.removesuffix(TABLE) + INDEX] = _index(config.window)
        elif not name.endswith(INDEX):
            found[name] = tensor
    others = sorted(windows - {config.window})
    if others:
        sizes = f"{', '.join(map(str, others))} to one of {config.window}"
        logger.info("%s: tables of relative positions are resampled from a window of %s patches", path, sizes)
    return found


def _index(window: int) -> torch.Tensor:
    """int64 [window^4]: row ``(2 window - 1) (dy + window - 1) + dx + window - 1`` for two patches (dy, dx) apart."""
    y, x = torch.arange(window).repeat_interleave(window), torch.arange(window).repeat(window)
    rows = (y[:, None] - y + window - 1) * (2 * window - 1) + x[:, None] - x + window - 1
    return rows.flatten()
