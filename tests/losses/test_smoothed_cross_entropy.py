"""Against an evaluation in float64 with NumPy, and against fairseq's criterion."""

import numpy as np
import pytest
import torch
from fairseq.criterions.label_smoothed_cross_entropy import label_smoothed_nll_loss

from mlvl_fairseq.losses.translation import SMOOTHING, smoothed_cross_entropy

EPS = 0.1
TARGETS = torch.tensor([3, 0, 2, 6, 6, 5])
WEIGHTS = torch.tensor([1.0, 2.0, -1.0, 0.5, 0.0, 3.0])


@pytest.fixture
def logits():
    generator = torch.Generator().manual_seed(0)
    return (3 * torch.randn(6, 7, generator=generator)).requires_grad_()


def by_hand(logits, eps, to):
    """-sum_v q_v log p_v with the smoothed label q, and its gradient softmax - q, token by token."""
    smoothed, nll, gradient = np.zeros(6), np.zeros(6), np.zeros((6, 7))
    for row, target in enumerate(TARGETS.tolist()):
        z = logits[row].astype(np.float64)
        log_p = z - np.log(np.exp(z).sum())
        q = np.full(7, eps / 7 if to == "all" else eps / 6)
        q[target] = 1 - eps + eps / 7 if to == "all" else 1 - eps
        assert abs(q.sum() - 1) < 1e-12
        smoothed[row], nll[row] = -(q * log_p).sum(), -log_p[target]
        gradient[row] = np.exp(log_p) - q
    return smoothed, nll, gradient


@pytest.mark.parametrize("to", SMOOTHING)
@pytest.mark.parametrize("eps", [0.0, EPS, 0.3])
def test_equals_its_definition(logits, to, eps):
    smoothed, nll = smoothed_cross_entropy(logits, TARGETS, eps, to)
    (smoothed * WEIGHTS).sum().backward()
    expected = by_hand(logits.detach().numpy(), eps, to)
    np.testing.assert_allclose(smoothed.detach().numpy(), expected[0], rtol=2e-6)
    np.testing.assert_allclose(nll.detach().numpy(), expected[1], rtol=2e-6)
    np.testing.assert_allclose(logits.grad.numpy(), WEIGHTS[:, None].numpy() * expected[2], rtol=1e-5, atol=1e-6)
    assert not nll.requires_grad


@pytest.mark.parametrize("to", SMOOTHING)
def test_gradient_is_that_of_autograd(logits, to):
    exact = logits.detach().double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: smoothed_cross_entropy(x, TARGETS, EPS, to)[0], exact)


def test_others_is_the_form_of_fairseq(logits):
    smoothed, nll = smoothed_cross_entropy(logits, TARGETS, EPS, "others")
    expected = label_smoothed_nll_loss(logits.log_softmax(-1), TARGETS, EPS)
    torch.testing.assert_close(smoothed.sum(), expected[0])
    torch.testing.assert_close(nll.sum(), expected[1])


def test_half_precision_is_computed_in_float32(logits):
    half = logits.detach().half().requires_grad_()
    smoothed, _ = smoothed_cross_entropy(half, TARGETS, EPS, "all")
    assert smoothed.dtype == torch.float32
    single = half.detach().float().requires_grad_()
    expected, _ = smoothed_cross_entropy(single, TARGETS, EPS, "all")
    torch.testing.assert_close(smoothed, expected)
    smoothed.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(half.grad, single.grad.half())
