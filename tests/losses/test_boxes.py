"""Boxes against the published code's numbers."""

import pytest
import torch
from golden import assert_golden
from golden_cclm import TABLE

from mlvl_fairseq.losses.boxes import box_losses, giou, iou, to_corners

GOLDEN = TABLE["boxes"]
PREDICTED, TARGET = (torch.tensor(GOLDEN[f"{which}_cxcywh"]) for which in ("pred", "target"))
ALL = torch.ones(len(PREDICTED), dtype=torch.bool)
WITHOUT_WHOLE = ~torch.tensor(GOLDEN["is_image"]).bool()


def negative_width():
    """What the published degenerate case has in its second row: L1 grows by 0.3 of 6 rows."""
    predicted = PREDICTED.clone()
    predicted[1, 2] = -0.1
    return predicted


def test_corners():
    assert_golden(to_corners(PREDICTED), GOLDEN["pred_xyxy"])
    assert_golden(to_corners(TARGET), GOLDEN["target_xyxy"])


def test_overlap_of_all_pairs():
    pairs = to_corners(PREDICTED)[:, None], to_corners(TARGET)[None]
    overlap, union = iou(*pairs)
    assert_golden(overlap, GOLDEN["iou"])
    assert_golden(union, GOLDEN["union"])
    assert_golden(giou(*pairs), GOLDEN["giou"], atol=1e-6)


@pytest.mark.parametrize("kept, name", [(ALL, "loss_all"), (WITHOUT_WHOLE, "loss_skip_full_image")])
@pytest.mark.parametrize("one_spoils_all", [False, True])
def test_losses_are_means_over_the_rows_that_count(kept, name, one_spoils_all):
    found = box_losses(PREDICTED, TARGET, kept, one_spoils_all)
    assert_golden(torch.stack([found.l1.mean, found.giou.mean]), GOLDEN[name])
    assert found.l1.number == found.giou.number == kept.sum()


def test_published_a_degenerate_box_takes_giou_from_all():
    found = box_losses(negative_width(), TARGET, ALL, one_spoils_all=True)
    assert_golden(torch.stack([found.l1.mean, found.giou.mean]), GOLDEN["loss_degenerate_box"])


@pytest.mark.parametrize("predicted, target", [(negative_width(), TARGET), (TARGET, negative_width())])
def test_a_degenerate_box_costs_its_own_row(predicted, target):
    found = box_losses(predicted, target, ALL)
    values = [1 - giou(*(to_corners(boxes[row]) for boxes in (predicted, target))) for row in (0, 2, 3, 4, 5)]
    assert float(found.giou.mean) == pytest.approx(sum(map(float, values)) / 5, rel=1e-6)
    assert found.giou.number == 5 and found.l1.number == 6
    if predicted is not TARGET:
        assert float(found.l1.mean) == pytest.approx(GOLDEN["loss_degenerate_box"][0], rel=1e-6)


@pytest.mark.parametrize("one_spoils_all", [False, True])
@pytest.mark.parametrize("case", ["no rows", "degenerate", "one point", "same box"])
def test_gradients_are_numbers(case, one_spoils_all):
    predicted, target = PREDICTED.clone(), TARGET.clone()
    if case == "degenerate":
        predicted[:, 3] = -1e-3
    elif case == "one point":
        predicted[:, 2:] = target[:, 2:] = 0
        predicted[:, :2] = target[:, :2]
    elif case == "same box":
        predicted = target.clone()
    predicted.requires_grad_()
    found = box_losses(predicted, target, ALL if case != "no rows" else ~ALL, one_spoils_all)
    means = found.l1.mean, found.giou.mean
    sum(means).backward()
    assert predicted.grad.isfinite().all()
    if case == "no rows":
        assert means == (0, 0) and not predicted.grad.any()
    if case == "degenerate":
        assert means[1] == 0 and means[0] > 0
    if case == "one point":
        assert float(means[1].detach()) == 1


def test_half_precision_is_computed_in_single():
    predicted, target = PREDICTED.bfloat16(), TARGET.bfloat16()
    found = box_losses(predicted, target, ALL)
    one, other = predicted.double(), target.double()
    assert float(found.l1.total) == pytest.approx(float((one - other).abs().sum()), rel=1e-6)
    gious = giou(to_corners(one), to_corners(other))
    assert float(found.giou.total) == pytest.approx(float((1 - gious).sum()), rel=1e-6)
