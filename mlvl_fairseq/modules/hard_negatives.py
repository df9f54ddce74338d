"""Negatives for matching, drawn by how alike they are (ALBEF, Li et al. 2021, section 3.2; CCLM, Zeng et al. 2023)."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

FLOOR = 1e-5  # of a probability, so that every other row can be drawn


class Negatives(NamedTuple):
    """A negative of each row on either side.

    Attributes:
        images: int64 [B], the image drawn for each text. texts: int64 [B], the text drawn for each image.
        found: bool [B], False where all other rows belong to the same thing: what was drawn is none.
    """

    images: Tensor
    texts: Tensor
    found: Tensor


@torch.no_grad()
def draw_negatives(text: Tensor, image: Tensor, temperature: Tensor, ids: Tensor) -> Negatives:
    """One image for each text, and one text for each image.

    Args:
        text, image: [B, D], not normalised. temperature: scalar that divides cosines.
        ids: int64 [B]; rows with the same one are no negatives of each other.
    """
    text, image = F.normalize(text.float(), dim=-1), F.normalize(image.float(), dim=-1)
    similarity = text @ image.t() / temperature
    other = ids[:, None] != ids[None, :]
    found = other.any(1)
    alone = ~found[:, None]  # draws something, which does not count
    images = ((similarity.softmax(1) + FLOOR) * other + alone).multinomial(1).squeeze(1)
    texts = ((similarity.t().softmax(1) + FLOOR) * other + alone).multinomial(1).squeeze(1)
    return Negatives(images, texts, found)
