"""Contrastive and distillation losses against the reference's numbers and an independent float64 computation."""

import pytest
import torch
from golden import assert_golden, det, load_golden

from mlvl_fairseq.distributed import gather_with_grad
from mlvl_fairseq.losses import POSITIVES, contrastive_loss, feature_mse, features, multi_positive_targets


@pytest.fixture(scope="module")
def golden():
    return load_golden("losses")


@pytest.fixture
def student():
    return det((6, 5), 1, 0).requires_grad_()


TEXT, IMAGE = det((6, 5), 1, 0.4), det((6, 5), 1, 0.8)


def test_contrastive_loss_with_several_positives(golden, student):
    temperature = torch.tensor(0.07, requires_grad=True)
    loss = contrastive_loss(student, IMAGE, temperature, torch.tensor(golden["vision_ids"])) / 6
    loss.backward()
    expected = golden["only_crossmodal"]
    assert_golden(loss, expected["loss"])
    assert_golden(student.grad, expected["grad_preds"])
    assert_golden(temperature.grad, expected["grad_vt_temp"])


def test_contrastive_loss_between_texts(golden, student):
    """The reference's contrastive distillation: one positive a row."""
    temperature = torch.tensor(0.07, requires_grad=True)
    loss = contrastive_loss(student, TEXT, temperature, torch.arange(6)) / 6
    loss.backward()
    expected = golden["tt_contrastive"]
    assert_golden(loss, expected["loss"])
    assert_golden(student.grad, expected["grad_preds"])
    assert_golden(temperature.grad, expected["grad_tt_temp"])


@pytest.mark.parametrize("case, teacher", [("only_crosslingual", TEXT), ("vt_mse", IMAGE)])
def test_feature_mse(golden, student, case, teacher):
    loss = feature_mse(student, teacher) / 6
    loss.backward()
    assert_golden(loss, golden[case]["loss"])
    assert_golden(student.grad, golden[case]["grad_preds"])


def test_targets_are_uniform_over_the_rows_of_an_image():
    targets = multi_positive_targets(torch.tensor([7, 3]), torch.tensor([3, 7, 3, 5, 3]))
    torch.testing.assert_close(targets, torch.tensor([[0, 1, 0, 0, 0], [1, 0, 1, 0, 1]]) / torch.tensor([[1.0], [3]]))


def log_softmax_loss(text, image, temperature, ids):
    """The definition, in float64 and without any function that the implementation uses."""
    text, image = (x.double() / x.double().square().sum(1, keepdim=True).sqrt() for x in (text, image))
    cosines = text @ image.T / temperature
    total = 0.0
    for logits in (cosines, cosines.T):
        for row in range(len(ids)):
            positives = [k for k in range(len(ids)) if ids[k] == ids[row]]
            logs = logits[row] - logits[row].exp().sum().log()
            total -= sum(logs[k] for k in positives) / len(positives)
    return 0.5 * total


def test_loss_is_its_definition_summed_over_rows():
    generator = torch.Generator().manual_seed(0)
    text, image = torch.randn(7, 16, generator=generator), 3 * torch.randn(7, 16, generator=generator)
    ids = torch.tensor([4, 9, 4, 1, 4, 2, 9])
    loss = contrastive_loss(text, image, torch.tensor(0.5), ids)
    torch.testing.assert_close(loss.double(), log_softmax_loss(text, image, 0.5, ids.tolist()), rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_features_are_compared_in_float32(dtype):
    generator = torch.Generator().manual_seed(0)
    text, image = (torch.randn(8, 16, generator=generator).to(dtype) for _ in range(2))
    ids, temperature = torch.arange(8), torch.tensor(0.07)
    loss, mse = contrastive_loss(text, image, temperature, ids), feature_mse(text, image)
    assert loss.dtype == mse.dtype == torch.float32
    torch.testing.assert_close(loss, contrastive_loss(text.float(), image.float(), temperature, ids))
    torch.testing.assert_close(mse, feature_mse(text.float(), image.float()))


def test_double_precision_features_are_compared_in_float32():
    """Teachers' features may be of any type; a loss is not of another one for it."""
    text, image = torch.randn(4, 3), torch.randn(4, 3, dtype=torch.float64)
    for pair in ((text, image), (image, text)):
        assert contrastive_loss(*pair, 0.07, torch.arange(4)).dtype == feature_mse(*pair).dtype == torch.float32


def test_rows_of_other_ranks_are_asked_for_on_request_only(monkeypatch):
    """Gathering is collective: one rank alone must not begin it."""
    asked = []

    class Gathered:
        first = 0

        def __init__(self, rows):
            asked.append(rows)

        def __call__(self, rows):
            return rows

    monkeypatch.setattr(features, "GatheredRows", Gathered)
    arguments = torch.randn(4, 3), torch.randn(4, 3), 0.07, torch.arange(4)
    alone = contrastive_loss(*arguments)
    assert not asked
    assert contrastive_loss(*arguments, gather=True) == alone and len(asked) == 1


@pytest.mark.parametrize("positives", POSITIVES)
def test_everything_stays_on_the_device_of_the_features(positives):
    text, image = (torch.randn(4, 3, device="meta", requires_grad=True) for _ in range(2))
    ids = torch.zeros(4, dtype=torch.int64, device="meta")
    loss = contrastive_loss(text, image, 0.07, ids, positives=positives)
    assert loss.device.type == "meta" and loss.shape == () and loss.requires_grad


@pytest.mark.parametrize("rows, block", [(4096, 4096), (8192, 2048), (2**25, 1)])
def test_blocks_of_similarities_are_of_64_mib(rows, block, monkeypatch):
    sizes = []
    monkeypatch.setattr(features, "in_chunks", lambda function, tensors, size: sizes.append(size) or torch.zeros(1))
    text, image = (torch.empty(rows, 1, device="meta") for _ in range(2))
    contrastive_loss(text, image, 0.07, torch.empty(rows, dtype=torch.int64, device="meta"))
    assert sizes == [block] and block * rows * 4 <= max(64 * 2**20, 4 * rows)


def test_a_rule_is_registered_and_stays_a_function():
    assert POSITIVES["mean"] is features.mean_over_positives and POSITIVES["diagonal"] is features.own_row


def test_one_row_has_nothing_to_contrast_with():
    loss = contrastive_loss(torch.ones(1, 4), torch.randn(1, 4), torch.tensor(0.07), torch.tensor([3]))
    assert loss.item() == 0


def test_gathering_without_ranks_is_the_identity():
    rows = torch.randn(3, 2)
    assert gather_with_grad(rows) is rows
