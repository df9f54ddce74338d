"""The objective of CCLM against the published code's numbers."""

from types import SimpleNamespace

import pytest
import torch
from fairseq.logging import metrics
from golden import assert_golden, det
from golden_cclm import GRADIENTS, STEPS, draw_likeliest, golden_batch, golden_network, our_name

from mlvl_fairseq.criterions import _pairs
from mlvl_fairseq.criterions.cclm import CclmPretrainingConfig, CclmPretrainingCriterion
from mlvl_fairseq.errors import UserError

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


def test_losses_are_the_same_under_autocast(monkeypatch):
    """Products of matrices in bfloat16; similarities, boxes and cross-entropies in float32."""
    draw_likeliest(monkeypatch)
    batch = golden_batch("region")
    with torch.autocast("cpu", torch.bfloat16):
        loss, rows, log = new_criterion(**REFERENCE)(golden_network(), batch)
    (loss / rows).backward()
    assert loss.dtype == torch.float32
    for name, value in STEPS["region"]["losses"].items():
        assert float(log[f"region_{NAMES.get(name[5:], name[5:])}"]) / rows == pytest.approx(value, rel=0.03), name


def small_batch(stream="image"):
    """Rows 0 and 2 are of one thing."""
    features = {"text": det((3, 4), 1, 0), "image": det((3, 4), 1, 1), "matching": det((9, 2), 1, 2)}
    features.update(drawn=torch.ones(9, dtype=torch.bool), masked=det((3, 1, 4), 1, 3))
    inputs = {"ids": torch.tensor([5, 6, 5])}
    if stream == "text":
        inputs["view_tokens"] = torch.zeros(3, 2, dtype=torch.long)
    sample = {"stream": stream, "masked_ids": torch.tensor([[1], [-100], [4]]), "nsentences": 3, "ntokens": 9}
    return features, {**sample, "net_input": inputs}


def small_model(features):
    words = SimpleNamespace(word_embeddings=SimpleNamespace(weight=det((5, 4), 1, 4)))

    class Model:
        temperature = torch.tensor(0.5)
        text_encoder = SimpleNamespace(embeddings=words)

        def lm_head(self, states, words):
            return states @ words.t()

        def __call__(self, **inputs):
            return features

    return Model()


def logged(stream="image", **options):
    features, sample = small_batch(stream)
    loss, rows, log = new_criterion(**options)(small_model(features), sample)
    return float(loss) / rows, {name: float(value) / rows for name, value in log.items() if "_" in name[:6]}


@pytest.mark.parametrize("stream, names", [("image", ["itc", "itm", "mlm"]), ("text", ["ttc", "ttm", "mlm"])])
def test_each_term_has_a_weight_and_is_logged_without_it(stream, names):
    whole, values = logged(stream)
    assert values.keys() == {f"{stream}_{name}" for name in names}
    assert whole == pytest.approx(sum(values.values()), rel=1e-6)
    for name in names:
        weighted, again = logged(stream, **{f"{name}_weight": 3.0})
        assert again == values and weighted == pytest.approx(whole + 2 * values[f"{stream}_{name}"], rel=1e-6)
        without, rest = logged(stream, **{f"{name}_weight": 0.0})
        assert rest == {key: value for key, value in values.items() if key != f"{stream}_{name}"}
        assert without == pytest.approx(whole - values[f"{stream}_{name}"], rel=1e-6)


@pytest.mark.parametrize("positives", ["masked", "diagonal"])
def test_rows_of_one_thing_are_no_negatives_of_each_other(positives):
    features, _ = small_batch()
    text, image = (
        features[side].double() / features[side].double().norm(dim=1, keepdim=True) for side in ("text", "image")
    )
    logits = text @ image.t() / 0.5
    if positives == "masked":
        logits[0, 2] = logits[2, 0] = -torch.inf
    expected = -0.5 * sum(x.log_softmax(1).diag().sum() for x in (logits, logits.t())) / 3
    options = {} if positives == "masked" else {"positives": positives}
    assert logged(**options)[1]["image_itc"] == pytest.approx(float(expected), rel=1e-6)


def test_negatives_that_are_none_do_not_count():
    features, sample = small_batch()
    features["drawn"][[4, 7, 8]] = False
    _, rows, log = new_criterion()(small_model(features), sample)
    logits, labels = features["matching"].double().log_softmax(1), [1, 1, 1, 0, None, 0, 0, None, None]
    expected = [-float(logits[row, label]) for row, label in enumerate(labels) if label is not None]
    assert float(log["image_itm"]) / rows == pytest.approx(sum(expected) / 6, rel=1e-6)


def test_a_network_without_heads_is_contrasted_only():
    features, sample = small_batch()
    bare = {side: features[side] for side in ("text", "image")}
    loss, _, log = new_criterion()(small_model(bare), sample)
    assert {name for name in log if name.startswith("image_")} == {"image_itc"} and loss == log["image_itc"]


def test_values_are_means_over_the_rows_of_their_stream():
    logs = [{"loss": 6.0, "image_itc": 4.0, "sample_size": 2, "nsentences": 2, "ntokens": 1}]
    logs += [{"loss": 9.0, "text_ttc": 3.0, "sample_size": 6, "nsentences": 6, "ntokens": 1}]
    logs += [{"loss": 2.0, "image_itc": 2.0, "sample_size": 1, "nsentences": 1, "ntokens": 1}]
    with metrics.aggregate() as found:
        CclmPretrainingCriterion.reduce_metrics(logs)
    assert {name: meter.avg for name, meter in found.items()} == {"loss": 17 / 9, "image_itc": 2.0, "text_ttc": 0.5}


def test_several_ranks_need_a_backend_that_lets_parameters_rest(monkeypatch):
    monkeypatch.setattr(_pairs, "world_size", lambda: 2)
    with pytest.raises(UserError, match="give --ddp-backend legacy_ddp$"):
        new_criterion(ddp_backend="pytorch_ddp")
    new_criterion(ddp_backend="legacy_ddp")


def test_weights_are_numbers_of_at_least_zero():
    with pytest.raises(UserError, match="--giou-weight -1 is not a number of at least 0"):
        new_criterion(giou_weight=-1.0)
