"""Where in an image a text's thing is: boxes, how well they overlap, and the losses of X-VLM (Zeng et al. 2022, section
3.2) and CCLM.

A box is either (centre x, centre y, width, height) or its corners (left, top, right, bottom), in shares of the image.
"""

from typing import NamedTuple, Sequence, Tuple

import torch
from torch import Tensor

from mlvl_fairseq.losses.sums import Summed


def to_corners(boxes: Tensor) -> Tensor:
    """Centres and sizes [..., 4] -> corners [..., 4]."""
    x, y, width, height = boxes.unbind(-1)
    return torch.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], -1)


def iou(first: Tensor, second: Tensor) -> Tuple[Tensor, Tensor]:
    """Intersection over union, and the union.

    Args:
        first, second: corners [..., 4], which broadcast: ``iou(a[:, None], b[None])`` is of all pairs.

    Returns:
        [...] each. Two boxes without an area have an intersection over union of 0.
    """
    shared = _area(torch.maximum(first[..., :2], second[..., :2]), torch.minimum(first[..., 2:], second[..., 2:]))
    union = _area(first[..., :2], first[..., 2:]) + _area(second[..., :2], second[..., 2:]) - shared
    return _ratio(shared, union), union


def giou(first: Tensor, second: Tensor) -> Tensor:
    """Generalised intersection over union (Rezatofighi et al. 2019), from -1 to 1: apart from the intersection it sees
    how far two boxes are from each other. Arguments and shapes as of :func:`iou`."""
    overlap, union = iou(first, second)
    hull = _area(torch.minimum(first[..., :2], second[..., :2]), torch.maximum(first[..., 2:], second[..., 2:]))
    return overlap - _ratio(hull - union, hull)


def _area(low: Tensor, high: Tensor) -> Tensor:
    return (high - low).clamp(min=0).prod(-1)


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """0 of nothing, with a gradient that is zero."""
    return part / whole.where(whole > 0, torch.ones_like(whole))


class BoxLosses(NamedTuple):
    """Attributes: l1: distance of centres and sizes. giou: ``1 - giou``."""

    l1: Summed
    giou: Summed


def box_losses(predicted: Tensor, target: Tensor, kept: Tensor, one_spoils_all: bool = False) -> BoxLosses:
    """Losses of predicted boxes, summed over rows; nothing waits for the device.

    A box is degenerate whose right or lower edge lies before the other one: GIoU has no meaning for it. Its row counts
    in L1 only.

    Args:
        predicted, target: centres and sizes [B, 4]. kept: bool [B], rows that count.
        one_spoils_all: a single degenerate box takes GIoU from all rows, as published.
    """
    boxes = _only(kept, predicted.float(), target.float())
    rows = kept.sum()
    found, wanted = map(to_corners, boxes)
    sane = _is_sane(found) & _is_sane(wanted)
    counted = kept & (sane.all() if one_spoils_all else sane)
    gious = giou(*map(to_corners, _only(counted, *boxes)))
    return BoxLosses(
        Summed((boxes[0] - boxes[1]).abs().sum(), rows),
        Summed((1 - gious).where(counted, 0.0).sum(), rows if one_spoils_all else counted.sum()),
    )


def _only(rows: Tensor, *boxes: Tensor) -> Sequence[Tensor]:
    """These rows (bool [B]) of boxes [B, 4], and in the place of the others one box, which depends on nothing."""
    return [each.where(rows[:, None], 0.5) for each in boxes]


def _is_sane(corners: Tensor) -> Tensor:
    return (corners[..., 2:] >= corners[..., :2]).all(-1)
