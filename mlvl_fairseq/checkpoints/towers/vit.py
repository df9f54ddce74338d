"""Vision transformers: DeiT's files (tensors under ``model``), DINO's (tensors alone), DeiT-III's and timm's."""

import re

from mlvl_fairseq.checkpoints.source import Tensors, WeightSource
from mlvl_fairseq.checkpoints.towers.base import register_resizing, register_tower_weights
from mlvl_fairseq.checkpoints.towers.positions import resize_positions
from mlvl_fairseq.checkpoints.towers.public import public_tensors
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.modules.towers.deit3 import DeiT3Config
from mlvl_fairseq.modules.towers.vit import ViTConfig

TABLE = "pos_embed"
DISTILLED = "dist_token"


@register_tower_weights(ViTConfig, of_classifiers=True)
def read_vit(source: WeightSource, config: ViTConfig) -> Tensors:
    """The table of positions has a row for the class token in front."""
    return _fitting(source, public_tensors(source), config, leading=1)


@register_tower_weights(DeiT3Config, of_classifiers=True)
def read_deit3(source: WeightSource, config: DeiT3Config) -> Tensors:
    """timm calls a scale ``ls1.gamma``, DeiT ``gamma_1``. The class token has no position."""
    tensors = {re.sub(r"\.ls([12])\.gamma$", r".gamma_\1", name): it for name, it in public_tensors(source).items()}
    return _fitting(source, tensors, config, leading=0)


def _fitting(source: WeightSource, tensors: Tensors, config: ViTConfig, leading: int) -> Tensors:
    """With positions for pictures of the config's size."""
    if DISTILLED in tensors:
        message = "belongs to a distilled DeiT, which has one more token; give the file without 'distilled'"
        raise DataError(message, source.path, field=DISTILLED)
    if TABLE not in tensors:
        raise DataError("tensor is missing; this is no vision transformer", source.path, field=TABLE)
    return _resized(tensors, config, source.path, leading)


@register_resizing(ViTConfig)
def resize_vit(tensors: Tensors, config: ViTConfig, path) -> Tensors:
    return _resized(tensors, config, path, leading=1)


@register_resizing(DeiT3Config)
def resize_deit3(tensors: Tensors, config: DeiT3Config, path) -> Tensors:
    return _resized(tensors, config, path, leading=0)


def _resized(tensors: Tensors, config: ViTConfig, path, leading: int) -> Tensors:
    """With positions for pictures of the config's size."""
    table = tensors[TABLE]
    if table.dim() != 3 or len(table) != 1:
        raise DataError(f"tensor has shape {list(table.shape)}, expected [1, rows, width]", path, field=TABLE)
    return {**tensors, TABLE: resize_positions(table[0], leading, config.grid, path, TABLE)[None]}
