"""The image tower of any file that holds a CLIP (see `checkpoints/clip.py`)."""

import logging

from mlvl_fairseq.checkpoints.clip import read_clip_weights
from mlvl_fairseq.checkpoints.source import Tensors, WeightSource
from mlvl_fairseq.checkpoints.towers.base import register_resizing, register_tower_weights
from mlvl_fairseq.checkpoints.towers.positions import resize_positions
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.modules.towers.clip_vit import ClipViTConfig

logger = logging.getLogger(__name__)
TABLE, PROJECTION = "positional_embedding", "proj"


@register_tower_weights(ClipViTConfig)
def read_clip_vit(source: WeightSource, config: ClipViTConfig) -> Tensors:
    """Without the projection to CLIP's space, for which the network has its own."""
    weights = read_clip_weights(source.path, config.activation)
    if weights.vision_config is None:
        raise DataError("holds no image tower; give a checkpoint with both towers", source.path)
    for name in ("patch_size", "width", "layers", "heads"):
        found, wanted = getattr(weights.vision_config, name), getattr(config, name)
        if found != wanted:
            raise UserError(f"{source.path}: its image tower has {name} {found}, not {wanted}: choose another tower")
    tensors = {name: tensor for name, tensor in weights.vision.items() if name != PROJECTION}
    logger.info("%s: the image tower without its projection to CLIP's space", source.path)
    return resize_clip_vit(tensors, config, source.path)


@register_resizing(ClipViTConfig)
def resize_clip_vit(tensors: Tensors, config: ClipViTConfig, path) -> Tensors:
    grid = config.image_size // config.patch_size
    return {**tensors, TABLE: resize_positions(tensors[TABLE], 1, grid, path, TABLE)}
