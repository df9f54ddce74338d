"""Negatives for matching, drawn by how alike they are (ALBEF, Li et al. 2021, section 3.2; CCLM, Zeng et al. 2023)."""

from contextlib import nullcontext
from typing import NamedTuple, Optional

import torch
import torch.nn.functional as F
from torch import Tensor

FLOOR = 1e-5  # of a probability, so that every other row can be drawn


class Rows(NamedTuple):
    """Pairs to draw from.

    Attributes:
        text, image: [P, D], not normalised. ids: int64 [P]; rows with the same one are no negatives of each other.
    """

    text: Tensor
    image: Tensor
    ids: Tensor


class Negatives(NamedTuple):
    """A negative of each row on either side, as numbers of rows to draw from.

    Attributes:
        images: int64 [B], the image drawn for each text. texts: int64 [B], the text drawn for each image.
        found: bool [B], False where all rows belong to the same thing: what was drawn is none.
    """

    images: Tensor
    texts: Tensor
    found: Tensor


@torch.no_grad()
def draw_negatives(own: Rows, others: Rows, temperature: Tensor, generator: Optional[torch.Generator]) -> Negatives:
    """One image for each text, and one text for each image. In float32, also under autocast, and without waiting for
    the device.

    Args:
        own: B rows. others: P rows, the own ones among them. temperature: scalar that divides cosines.
        generator: see :func:`draw`.
    """
    kind = own.text.device.type
    with torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext():
        other = own.ids[:, None] != others.ids[None, :]
        images = draw(_weights(own.text, others.image, temperature) * other, generator)
        texts = draw(_weights(own.image, others.text, temperature) * other, generator)
    return Negatives(images, texts, other.any(1))


def _weights(queries: Tensor, keys: Tensor, temperature: Tensor) -> Tensor:
    queries, keys = F.normalize(queries.float(), dim=-1), F.normalize(keys.float(), dim=-1)
    return (queries @ keys.t() / temperature.float()).softmax(1) + FLOOR


def draw(weights: Tensor, generator: Optional[torch.Generator] = None) -> Tensor:
    """A column of each row, with a probability in proportion to its weight; of a row of zeros the first one.

    What `torch.multinomial` does, without its checks, which wait for the device: the first of P events with these rates
    is drawn.

    Args:
        weights: float [B, P], at least 0. generator: on the device of `weights`; None: torch's own.

    Returns:
        int64 [B].
    """
    times = torch.empty_like(weights).exponential_(generator=generator)
    return (weights / times.clamp_min_(torch.finfo(weights.dtype).tiny)).argmax(1)


def new_generator(device: torch.device, rank: int) -> torch.Generator:
    """A generator that goes on from the state of torch's own, which every rank seeds alike before an update, and yet
    differs from rank to rank."""
    seed = int(torch.randint(2**62, (), device="cpu"))
    return torch.Generator(device).manual_seed(seed + rank)
