"""Against an evaluation in float64 with NumPy, and against fairseq's criterion."""

import numpy as np
import pytest
import torch
from fairseq.criterions.label_smoothed_cross_entropy import label_smoothed_nll_loss

from mlvl_fairseq.losses.translation import smoothed_cross_entropy

PAD, EPS = 1, 0.1
TARGETS = torch.tensor([[3, 0, 2, PAD], [6, 2, PAD, PAD], [4, 4, 5, 2]])


@pytest.fixture
def logits():
    generator = torch.Generator().manual_seed(0)
    return (3 * torch.randn(3, 4, 7, generator=generator)).requires_grad_()


def by_hand(logits, eps, to):
    """-sum_v q_v log p_v with the smoothed label q, token by token."""
    smoothed, nll = np.zeros(3), np.zeros(3)
    for row, column in np.ndindex(3, 4):
        target = int(TARGETS[row, column])
        if target == PAD:
            continue
        z = logits[row, column].astype(np.float64)
        log_p = z - np.log(np.exp(z).sum())
        q = np.full(7, eps / 7 if to == "all" else eps / 6)
        q[target] = 1 - eps + eps / 7 if to == "all" else 1 - eps
        assert abs(q.sum() - 1) < 1e-12
        smoothed[row] -= (q * log_p).sum()
        nll[row] -= log_p[target]
    return smoothed, nll


@pytest.mark.parametrize("to", ["others", "all"])
@pytest.mark.parametrize("eps", [0.0, EPS, 0.3])
def test_equals_its_definition(logits, to, eps):
    smoothed, nll = smoothed_cross_entropy(logits, TARGETS, eps, to, PAD)
    expected = by_hand(logits.detach().numpy(), eps, to)
    np.testing.assert_allclose(smoothed.detach().numpy(), expected[0], rtol=2e-6)
    np.testing.assert_allclose(nll.detach().numpy(), expected[1], rtol=2e-6)


@pytest.mark.parametrize("to", ["others", "all"])
def test_gradients_equal_those_in_float64(logits, to):
    exact = logits.detach().double().requires_grad_()
    smoothed_cross_entropy(logits, TARGETS, EPS, to, PAD)[0].sum().backward()
    log_p = exact.log_softmax(-1)
    counts = TARGETS.ne(PAD)
    nll, rest = -log_p.gather(-1, TARGETS[..., None])[..., 0], -log_p.sum(-1)
    share = EPS / 7 if to == "all" else EPS / 6
    own = 1 - EPS if to == "all" else 1 - EPS - share
    ((own * nll + share * rest) * counts).sum().backward()
    torch.testing.assert_close(logits.grad.double(), exact.grad, rtol=1e-5, atol=1e-6)
    assert not logits.grad[~counts].any()


def test_others_is_the_form_of_fairseq(logits):
    smoothed, nll = smoothed_cross_entropy(logits, TARGETS, EPS, "others", PAD)
    expected = label_smoothed_nll_loss(logits.log_softmax(-1), TARGETS, EPS, PAD)
    torch.testing.assert_close(smoothed.sum(), expected[0])
    torch.testing.assert_close(nll.sum(), expected[1])


def test_half_precision_is_computed_in_float32(logits):
    half = logits.detach().half()
    smoothed, _ = smoothed_cross_entropy(half, TARGETS, EPS, "all", PAD)
    assert smoothed.dtype == torch.float32
    torch.testing.assert_close(smoothed, smoothed_cross_entropy(half.float(), TARGETS, EPS, "all", PAD)[0])
