"""Losses between two sets of features: contrast, with one or several positives a row, and the distance of pairs.

A new contrastive loss computes its similarities as `contrastive_loss` does, with `in_chunks`: the whole matrix of a
large batch does not fit memory.
"""

from contextlib import nullcontext
from typing import Callable, Dict, NamedTuple, Optional, Union

import torch
import torch.nn.functional as F
from torch import Tensor

from mlvl_fairseq.distributed import GatheredRows, world_size
from mlvl_fairseq.losses.sums import NOTHING
from mlvl_fairseq.modules.chunking import in_chunks
from mlvl_fairseq.registry import registering

MAX_SIMILARITIES = 2**24  # larger matrices are worked through in blocks of rows: 64 MiB each, not 256 MiB for 8192 rows


class Targets(NamedTuple):
    """What the softmax over keys is asked for.

    Attributes:
        positives: int64 [Q], the one positive key of each query; or float [Q, K], weights of its positive keys.
        excluded: bool [Q, K], keys that are neither positive nor negative; None: there are none.
    """

    positives: Tensor
    excluded: Optional[Tensor] = None


Rule = Callable[[Tensor, Tensor, Tensor], Targets]
POSITIVES: Dict[str, Rule] = {}


def register_positives(name: str) -> Callable[[Rule], Rule]:
    """A rule ``(query_ids [Q], key_ids [K], own [Q]) -> Targets``; key ``own[i]`` is of query i's own row."""
    return registering(POSITIVES, "a kind of positives", name)


def multi_positive_targets(query_ids: Tensor, key_ids: Tensor) -> Tensor:
    """Target distribution [Q, K]: uniform over the keys that carry the query's id (Yang et al. 2024, section 3.3)."""
    same = _same(query_ids, key_ids)
    return same / same.sum(dim=1, keepdim=True)


@register_positives("mean")
def mean_over_positives(query_ids: Tensor, key_ids: Tensor, own: Tensor) -> Targets:
    """All keys with the query's id, each with weight 1 / their number: every query counts the same."""
    return Targets(multi_positive_targets(query_ids, key_ids))


@register_positives("sum")
def sum_over_positives(query_ids: Tensor, key_ids: Tensor, own: Tensor) -> Targets:
    """All keys with the query's id, each with weight 1: an image counts with the square of its captions in the batch.

    As published for the fine-tuning of mCLIP (Chen et al. 2023).
    """
    return Targets(_same(query_ids, key_ids).float())


@register_positives("diagonal")
def own_row(query_ids: Tensor, key_ids: Tensor, own: Tensor) -> Targets:
    """The query's own row; other rows with its id are negatives, false ones. As CLIP (Radford et al. 2021) and, as
    published, the pre-training of mCLIP do it.
    """
    return Targets(own)


@register_positives("masked")
def own_row_without_false_negatives(query_ids: Tensor, key_ids: Tensor, own: Tensor) -> Targets:
    """The query's own row; other rows with its id leave the denominator."""
    return Targets(own, _same(query_ids, key_ids).scatter(1, own[:, None], False))


def _same(query_ids: Tensor, key_ids: Tensor) -> Tensor:
    return query_ids[:, None] == key_ids[None, :]


def contrastive_loss(
    text: Tensor,
    image: Tensor,
    temperature: Union[float, Tensor],
    ids: Tensor,
    gather: bool = False,
    positives: str = "mean",
    valid: Optional[Tensor] = None,
    queries: Optional[slice] = None,
) -> Tensor:
    """Symmetric cross-modal contrastive loss, **summed** over the rows of this rank.

    Memory follows the number of rows, not its square: blocks of a large similarity matrix are computed anew for the
    gradient. In one process nothing waits for the device.

    Args:
        text, image: [B, D] features, not normalised; row i of both belongs together.
        temperature: scalar that divides the cosines.
        ids: [B] image ids; rows with the same id show the same image.
        gather: contrast with the rows of all ranks. Divided by the number of rows of all ranks, the sum over ranks is
            the loss of one process with all rows, gradients included; each rank computes only its own rows. Every rank
            has to call this equally often, also one whose rows are all invalid.
        positives: what rows of the same image are to each other, a name in :data:`POSITIVES`: ``mean``, ``sum``,
            ``diagonal`` or ``masked``.
        valid: bool [B], rows that count; None: all. The others are neither queries nor keys, on any rank, and have no
            gradient, whatever is in them.
        queries: rows that are queries; the others are keys only. None: all are.

    Returns:
        scalar, ``0.5 * (sum of text-to-image rows + sum of image-to-text rows)`` over the queries, in float32, also
        under autocast: similarities are divided by a temperature of as little as 0.001.
    """
    kind = text.device.type
    with torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext():
        return _contrastive_loss(text, image, temperature, ids, gather, positives, valid, queries)


def _contrastive_loss(text, image, temperature, ids, gather, positives, valid, queries) -> Tensor:
    if valid is not None:  # rows stay where they are: to pick some, the host would have to know how many
        text, image = (rows.where(valid[:, None], 0.0) for rows in (text, image))
    text, image = F.normalize(text.float(), dim=-1), F.normalize(image.float(), dim=-1)
    own = torch.arange(len(ids), device=ids.device)
    all_text, all_image, all_ids, all_valid = text, image, ids, valid
    if gather:
        rows = GatheredRows(ids)
        all_text, all_image, all_ids, own = rows(text), rows(image), rows(ids), own + rows.first
        if world_size() > 1:  # whether others have rows that do not count, no rank knows
            all_valid = rows(torch.ones_like(ids) if valid is None else valid.to(ids.dtype)).bool()
    if all_valid is not None:
        all_ids = all_ids.where(all_valid, all_ids.min() - 1)  # those that do not count are nobody's positives
        ids = all_ids[own]

    own = own if queries is None else own[queries]
    text, image, ids = (each if queries is None else each[queries] for each in (text, image, ids))

    def block(text: Tensor, image: Tensor, ids: Tensor, own: Tensor) -> Tensor:
        targets = POSITIVES[positives](ids, all_ids, own)
        if all_valid is not None:
            targets = _without_invalid(targets, all_valid[own])
        text_to_image = _cross_entropy(text @ all_image.t() / temperature, targets, all_valid)
        image_to_text = _cross_entropy(image @ all_text.t() / temperature, targets, all_valid)
        return (0.5 * (text_to_image + image_to_text)).unsqueeze(0)

    block_rows = max(1, MAX_SIMILARITIES // max(1, len(all_ids)))
    return in_chunks(block, (text, image, ids, own), block_rows).sum()


def _without_invalid(targets: Targets, valid: Tensor) -> Targets:
    """Queries that do not count (bool [Q]) ask for nothing."""
    positives = targets.positives
    if positives.is_floating_point():
        return targets._replace(positives=positives * valid[:, None])
    return targets._replace(positives=positives.where(valid, NOTHING))


def _cross_entropy(logits: Tensor, targets: Targets, valid: Optional[Tensor]) -> Tensor:
    """Summed over rows; `logits` is [Q, K], `valid` bool [K]: keys that count, None: all."""
    if valid is not None:  # finite: a weight of 0 times it is 0
        logits = logits.masked_fill(~valid, torch.finfo(logits.dtype).min)
    if targets.excluded is not None:
        logits = logits.masked_fill(targets.excluded, float("-inf"))
    return F.cross_entropy(logits, targets.positives, reduction="sum")


def feature_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared error over the dimensions of un-normalised features [B, D], **summed** over rows, in float32.

    Divided by B it is the cross-lingual loss of Yang et al. 2024, equation 2.
    """
    return F.mse_loss(student.float(), teacher.float(), reduction="sum") / student.shape[1]
