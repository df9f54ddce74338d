"""The text tower of any file that holds a CLIP (see `checkpoints/clip.py`)."""

import logging

from mlvl_fairseq.checkpoints.clip import read_clip_weights
from mlvl_fairseq.checkpoints.source import Tensors, WeightSource
from mlvl_fairseq.checkpoints.towers.base import register_tower_weights
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.modules.towers.clip_text_tower import ClipTextTowerConfig

logger = logging.getLogger(__name__)
POSITIONS, PROJECTION = "positional_embedding", "text_projection"


@register_tower_weights(ClipTextTowerConfig)
def read_clip_text(source: WeightSource, config: ClipTextTowerConfig) -> Tensors:
    """Without the projection to CLIP's space, for which the network has its own; positions beyond the tower's longest
    text are left out."""
    weights, path = read_clip_weights(source.path, config.activation), source.path
    for name in ("vocab_size", "width", "layers", "heads"):
        found, wanted = getattr(weights.text_config, name), getattr(config, name)
        if found != wanted:
            message = f"its text tower has {name} {found}, not {wanted}: choose another tower or vocabulary"
            raise DataError(message, path)
    tensors = {name: tensor for name, tensor in weights.text.items() if name != PROJECTION}
    table = tensors[POSITIONS]
    if len(table) < config.max_positions:
        raise DataError(f"has {len(table)} rows for {config.max_positions} positions", path, field=POSITIONS)
    logger.info("%s: the text tower without its projection to CLIP's space", path)
    return {**tensors, POSITIONS: table[: config.max_positions].contiguous()}
