"""Where the negatives of matching come from: the rows of one rank, as published, or of all, for ``--negatives``."""

from typing import Callable, Dict, NamedTuple, Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from mlvl_fairseq.distributed import FetchedRows, GatheredRows, gather_values, rank, world_size
from mlvl_fairseq.modules.hard_negatives import Negatives, Rows, draw_negatives, new_generator
from mlvl_fairseq.registry import registering


class States(NamedTuple):
    """Texts, or what they are read beside: [P, T, width], and where these have a meaning: bool [P, T], None: all."""

    states: Tensor
    mask: Optional[Tensor]


class Pool(NamedTuple):
    """B pairs and what was drawn for them.

    Attributes:
        texts, views: of the B pairs, and behind them of other ranks. negatives: as numbers of rows of these.
    """

    texts: States
    views: States
    negatives: Negatives


Source = Callable[[Rows, States, States, Tensor], Pool]
NEGATIVES: Dict[str, Source] = {}


def register_negatives(name: str) -> Callable[[Source], Source]:
    """Decorator of a function ``(pairs, texts, views, temperature) -> Pool`` of a rank's B pairs."""
    return registering(NEGATIVES, "a source of negatives", name)


@register_negatives("local")
def local(pairs: Rows, texts: States, views: States, temperature: Tensor) -> Pool:
    """Rows of this rank (CCLM, section 3.2)."""
    return Pool(texts, views, draw_negatives(pairs, pairs, temperature, new_generator(pairs.ids.device, rank())))


@register_negatives("gather")
def gather(pairs: Rows, texts: States, views: States, temperature: Tensor) -> Pool:
    """Rows of all ranks, whose ids have to be comparable. Vectors are exchanged of all rows, states of the drawn ones
    only; gradients go back to where a row came from."""
    if world_size() == 1:
        return local(pairs, texts, views, temperature)
    rows = GatheredRows(pairs.ids)
    pairs = Rows(*(part.detach() for part in pairs))
    drawn = draw_negatives(pairs, Rows(*map(rows, pairs)), temperature, new_generator(pairs.ids.device, rank()))
    widths = gather_values([texts.states.shape[1], views.states.shape[1]])
    texts = _with_drawn(texts, FetchedRows(drawn.texts, rows.sizes), max(widths[::2]))
    views = _with_drawn(views, FetchedRows(drawn.images, rows.sizes), max(widths[1::2]))
    behind = torch.arange(len(pairs.ids), 2 * len(pairs.ids), device=pairs.ids.device)
    return Pool(texts, views, Negatives(behind, behind, drawn.found))


def _with_drawn(own: States, fetched: FetchedRows, width: int) -> States:
    """The rows drawn behind the own ones, all padded to a width."""
    states, mask = own
    mask = torch.ones_like(states[..., 0], dtype=torch.bool) if mask is None else mask
    more = width - states.shape[1]
    states, mask = F.pad(states, (0, 0, 0, more)), F.pad(mask, (0, more))
    drawn = fetched(states), fetched(mask.to(torch.uint8)).bool()
    return States(torch.cat([states, drawn[0]]), torch.cat([mask, drawn[1]]))
