"""The objective of CCLM against the published code's numbers."""

from types import SimpleNamespace

import pytest
from golden import assert_golden
from golden_cclm import GRADIENTS, STEPS, draw_likeliest, golden_batch, golden_network, our_name

from mlvl_fairseq.criterions.cclm import CclmPretrainingConfig, CclmPretrainingCriterion

REFERENCE = {"positives": "diagonal", "itc_grad": "local", "mean_over": "rank", "degenerate_boxes": "batch"}
NAMES = {"bbox": "l1"}


def new_criterion(**options):
    return CclmPretrainingCriterion(CclmPretrainingConfig(**options), SimpleNamespace(streams=["image"]))


@pytest.mark.parametrize("step", STEPS)
def test_losses_and_gradients_are_those_of_the_published_code(step, monkeypatch):
    weights = draw_likeliest(monkeypatch)
    golden, network = STEPS[step], golden_network()
    criterion = new_criterion(**REFERENCE, whole_image_boxes=step == "region_bbox_on_full_images_too")
    batch = golden_batch(step)
    loss, rows, log = criterion(network, batch)
    (loss / rows).backward()
    assert [int(row) for drawn in weights for row in drawn.argmax(1)] == golden["negative_choice"]
    expected = {f"{batch['stream']}_{NAMES.get(n[5:], n[5:])}": value for n, value in golden["losses"].items()}
    values = {name: float(value) / rows for name, value in log.items() if name.startswith(batch["stream"])}
    assert values.keys() == expected.keys()
    for name, value in expected.items():
        assert_golden(values[name], value, msg=name)
    assert_golden(loss / rows, golden["total"])
    parameters = dict(network.named_parameters())
    assert len(GRADIENTS) > 390
    for name, norm in zip(GRADIENTS, golden["grad_norms"], strict=True):
        gradient = parameters.pop(our_name(name)).grad
        assert_golden(0.0 if gradient is None else gradient.norm(), norm, rtol=2e-4, atol=2e-6, msg=name)
