"""The criterion of CLL-CLIP: its parts and their weights against the reference, its temperature, its logs."""

from types import SimpleNamespace

import pytest
import torch
from fairseq.logging import metrics
from golden import assert_golden, det, load_golden

from mlvl_fairseq.criterions.cll_clip import CllClipCriterion, CllClipCriterionConfig
from mlvl_fairseq.errors import UserError

PARTS = {"[TT]_loss_mse": "cross_lingual", "[VT]_loss_cl": "cross_modal"}


def criterion(position=0, **options):
    task = SimpleNamespace(position=position, plugins={}, model=None)
    return CllClipCriterion(CllClipCriterionConfig(**options), task)


def golden_sample():
    return {
        "net_input": {"text": det((6, 5), 1, 0)},
        "text_features": det((6, 5), 1, 0.4),
        "image_features": det((6, 5), 1, 0.8),
        "image_ids": torch.tensor(load_golden("losses")["vision_ids"]),
        "nsentences": 6,
        "ntokens": 50,
    }


def student(text):
    """A model whose features are its input."""
    return {"text": text.requires_grad_()}


@pytest.mark.parametrize("case, options", [
    ("default", {}),
    ("only_crosslingual", {"cross_modal_scale": 0}),
    ("only_crossmodal", {"cross_lingual_scale": 0, "cross_modal_scale": 1}),
    ("temp_clamped_low", {"initial_temperature": 1e-5}),
    ("temp_clamped_high", {"initial_temperature": 3.0}),
])  # fmt: skip
def test_losses_and_gradients_match_the_reference(case, options):
    golden, sample = load_golden("losses")[case], golden_sample()
    ours = criterion(**options)
    loss, rows, log = ours(student, sample)
    (loss / rows).backward()
    assert_golden(loss / rows, golden["loss"])
    assert_golden(sample["net_input"]["text"].grad, golden["grad_preds"])
    parts = {PARTS[name]: value for name, value in golden["parts"].items() if name in PARTS}
    assert parts.keys() == log.keys() & PARTS.values()
    for name, value in parts.items():
        assert_golden(log[name] / rows, value, msg=name)
    if "grad_vt_temp" in golden:
        assert_golden(ours.temperature.grad, golden["grad_vt_temp"])
        assert_golden(ours.temperature, golden["parts"]["[VT]_temp"])
    else:
        assert not ours.temperature.requires_grad


def test_logs_are_means_over_all_rows_of_all_batches():
    logs = [{"loss": torch.tensor(6.0), "cross_lingual": torch.tensor(3.0), "sample_size": 3},
            {"loss": torch.tensor(2.0), "cross_lingual": torch.tensor(1.0), "sample_size": 1}]  # fmt: skip
    with metrics.aggregate() as logged:
        CllClipCriterion.reduce_metrics(logs)
    assert {name: logged[name].avg for name in logged} == {"loss": 2, "cross_lingual": 1}
    with metrics.aggregate() as logged:
        CllClipCriterion.reduce_metrics([{"loss": torch.tensor(0.0), "sample_size": 0}])  # a rank without a batch
    assert logged["loss"].avg == 0


def test_temperature_resumes_within_a_language_and_starts_anew_with_the_next():
    learned = criterion(position=1)
    learned.temperature.data.fill_(0.2)
    resumed, following = criterion(position=1), criterion(position=2)
    for other in (resumed, following):
        other.load_state_dict(learned.state_dict())
    assert resumed.temperature.item() == pytest.approx(0.2)
    assert following.temperature.item() == pytest.approx(0.07) and int(following.position) == 2


class Term:
    """A plugin that adds one term to the loss."""

    def losses(self, model, features, sample):
        return {"term": (10.0, features["text"].mean())}


def test_plugins_add_terms_in_training_only():
    ours, plain, sample = criterion(), criterion(), golden_sample()
    ours.task.plugins = {"x": Term()}
    expected = plain(student, sample)[0] / 6
    mean = sample["net_input"]["text"].double().mean()
    loss, rows, log = ours(student, sample)
    assert_golden(loss / rows, (expected.double() + 10 * mean).item())
    assert_golden(log["term"] / rows, mean.item())
    ours.eval()
    loss, rows, log = ours(student, sample)
    assert "term" not in log and torch.equal(loss / rows, expected)


def test_within_the_previous_language_its_temperature_holds():
    learned, following = criterion(position=1), criterion(position=2)
    learned.temperature.data.fill_(0.2)
    following.load_state_dict(learned.state_dict())
    sample = golden_sample()
    text = {"text": sample["net_input"]["text"], "image": sample["image_features"]}
    with following.at_previous_temperature():
        assert not following.training
        terms = following.base_losses(text, sample)
    learned.eval()
    assert terms == learned.base_losses(text, sample) and terms.keys() == {"cross_lingual", "cross_modal"}
    assert following.training and following.temperature.item() == pytest.approx(0.07)
    with pytest.raises(KeyError), following.at_previous_temperature():
        raise KeyError
    assert following.training and following.temperature.item() == pytest.approx(0.07)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"cross_modal_scale": float("nan")}, "--cross-modal-scale nan is not a number of at least 0"),
        ({"cross_lingual_scale": -1.0}, "--cross-lingual-scale -1 is not a number of at least 0"),
        ({"initial_temperature": 0.0}, "--initial-temperature 0 is not a number above 0"),
        ({"initial_temperature": float("inf")}, "--initial-temperature inf is not a number above 0"),
        ({"cross_lingual_scale": 0.0, "cross_modal_scale": 0.0}, "leave no loss"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(UserError, match=message):
        criterion(**options)
