"""The loss of LilT's published code, projections included, at six temperatures."""

import pytest
import torch
import torch.nn.functional as F
from golden import load_golden

from mlvl_fairseq.losses import contrastive_loss

GOLDEN = load_golden("lilt_training")["contrastive_loss"]
CASES = GOLDEN["cases"]


def tensors(*names):
    return [torch.tensor(GOLDEN[name]) for name in names]


def assert_near(actual, expected, tolerance):
    """Relative to the largest of the numbers."""
    expected = torch.tensor(expected, dtype=torch.float64)
    assert float((actual.double() - expected).abs().max() / expected.abs().max()) < tolerance


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("case", CASES, ids=[str(case["temp_in"]) for case in CASES])
def test_loss_and_gradients(case, autocast):
    """In float32, also where the towers are under autocast."""
    image, text = (states.requires_grad_() for states in tensors("image", "text"))
    temperature = torch.tensor(case["temp_after_clamp"], requires_grad=True)
    vectors = [
        F.linear(states, *tensors(f"{side}_proj_weight", f"{side}_proj_bias"))
        for side, states in (("text", text), ("vision", image))
    ]
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = contrastive_loss(*vectors, temperature, torch.arange(6), positives="diagonal") / 6
    loss.backward()
    tolerance = 1e-3 if case["temp_after_clamp"] < 0.002 else 1e-5
    assert loss.dtype == torch.float32
    assert_near(loss.detach(), case["loss"], tolerance)
    for actual, name in ((temperature, "grad_temp"), (image, "grad_image"), (text, "grad_text")):
        assert_near(actual.grad, case[name], tolerance)
