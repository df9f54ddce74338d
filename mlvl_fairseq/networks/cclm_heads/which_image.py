"""Which of two images a text is about, or neither: what a CCLM can be trained on before MaRVL (Zeng et al. 2023, domain
pre-training)."""

from typing import NamedTuple, Optional

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from mlvl_fairseq.distributed import rank
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.modules import hard_negatives
from mlvl_fairseq.modules.heads import INITIAL_TEMPERATURE
from mlvl_fairseq.networks.base import Encoded
from mlvl_fairseq.networks.cclm_heads.base import Head, register_head

FIRST, SECOND, NEITHER = 0, 1, 2  # classes
SHARE = 1 / 3  # of texts that are about neither


class Pairs(NamedTuple):
    """Two images for each of B texts.

    Attributes:
        images: int64 [B, 2], as numbers of rows. labels: int64 [B]. found: bool [B], False where there is no image of
            something else.
    """

    images: Tensor
    labels: Tensor
    found: Tensor


@register_head("which_image")
class WhichImage(Head):
    """``run`` takes one image a text and pairs it with others of the batch. It gives ``logits`` [B, 3], ``labels``
    int64 [B], and ``drawn`` bool [B], False where there was no other to pair with. ``ids``: int64 [B], rows with the
    same one are about the same thing; by default none are."""

    attribute, rank, several_images, compares_images = "ta_head", 5, True, True

    def build(self, text, options, fusion_layers):
        if (options.images_per_text or 1) != 2:
            raise UserError("--heads which_image needs --images-per-text 2")
        return nn.Linear(text.width, 3)

    def run(self, network, text, image, ids=None):
        rows = len(text.mask)
        ids = torch.arange(rows, device=text.mask.device) if ids is None else ids
        generator = hard_negatives.new_generator(ids.device, rank())
        neither, first = (torch.rand(rows, generator=generator, device=ids.device) for _ in range(2))
        pairs = paired(weights_of(image.vector, ids), neither <= SHARE, first > 0.5, generator)
        both = pairs.images.flatten()
        seen = Encoded(image.vector[both], image.states[both])
        logits = network.ta_head(network.first_states(text, seen))
        return {"logits": logits, "labels": pairs.labels, "drawn": pairs.found}


@torch.no_grad()
def weights_of(vectors: Tensor, ids: Tensor) -> Tensor:
    """How alike images are, [B, B], 0 where they are of the same thing.

    Args:
        vectors: [B, embed_dim], not normalised. ids: see :class:`WhichImage`.
    """
    vectors = normalize(vectors.float(), dim=-1)
    alike = (vectors @ vectors.t() / INITIAL_TEMPERATURE).softmax(1)
    return alike * (ids[:, None] != ids[None, :])


@torch.no_grad()
def paired(weights: Tensor, neither: Tensor, first: Tensor, generator: Optional[torch.Generator]) -> Pairs:
    """Draw images for texts.

    Args:
        weights: [B, B], of images for texts. neither: bool [B], texts that get two others; where there is but one
            other, their own, too. first: bool [B], whether the own image is the first of the two.
        generator: see :func:`mlvl_fairseq.modules.hard_negatives.draw`.
    """
    own = torch.arange(len(weights), device=weights.device)
    other = hard_negatives.draw(weights, generator)
    left = weights.scatter(1, other[:, None], 0.0)
    another = hard_negatives.draw(left, generator)
    neither = neither & (left > 0).any(1)
    one = torch.where(neither, other, torch.where(first, own, other))
    two = torch.where(neither, another, torch.where(first, other, own))
    labels = torch.where(first, FIRST, SECOND).masked_fill(neither, NEITHER)
    return Pairs(torch.stack([one, two], 1), labels, (weights > 0).any(1))
