"""How a fine-tuned CCLM begins as a pre-trained one (Zeng et al. 2023): fusion layers are copied for each of several
images, heads begin as layers of the encoder."""

import re

from torch import nn

from mlvl_fairseq.checkpoints.source import Tensors
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.networks import cclm_heads

LAYER = re.compile(r"fusion\.layer\.(\d+)\.(.+)")


def started(network: nn.Module, tensors: Tensors, images_per_text: int) -> Tensors:
    """See :meth:`mlvl_fairseq.networks.base.Network.started`.

    Args:
        network: a CCLM. images_per_text: of the model that the tensors are of.
    """
    views = network.fusion.views
    if images_per_text not in (1, views):
        raise UserError(
            f"--images-per-text {views}: the checkpoint to start from reads a text beside {images_per_text} images"
        )
    first = {}
    for name, tensor in tensors.items():
        layer = LAYER.fullmatch(name)
        if layer is None:
            first[name] = tensor
        elif int(layer[1]) % images_per_text == 0:
            first[f"fusion.layer.{int(layer[1]) // images_per_text}.{layer[2]}"] = tensor
    found = cclm_heads.started(network, first, tensors)
    if views > images_per_text:
        found.update(_copied(first, views))
    return found


def _copied(tensors: Tensors, views: int) -> Tensors:
    """Every fusion layer as often as there are views."""
    found = {}
    for name, tensor in tensors.items():
        layer = LAYER.fullmatch(name)
        if layer is not None:
            for view in range(views):
                found[f"fusion.layer.{int(layer[1]) * views + view}.{layer[2]}"] = tensor
    return found
