"""The objective of CCLM's fine-tuning for retrieval against the published code's numbers."""

from types import SimpleNamespace

import pytest
import torch
from golden import assert_golden, det
from golden_cclm import draw_likeliest
from golden_cclm_retrieval import golden_retrieval, golden_retrieval_network

from mlvl_fairseq.criterions.cclm_retrieval import CclmRetrievalConfig, CclmRetrievalCriterion
from mlvl_fairseq.errors import UserError

TABLE, ARRAYS = golden_retrieval()
GOLDEN = TABLE["matching_idx"]
IMAGES = 5


def new_criterion(**options):
    return CclmRetrievalCriterion(CclmRetrievalConfig(**options), SimpleNamespace(trains_image_tower=True))


def golden_batch():
    tokens, mask, ids = (torch.tensor(GOLDEN[name]) for name in ("text_ids", "text_atts", "idx"))
    images = torch.from_numpy(ARRAYS["matching_images"])
    inputs = {"tokens": tokens, "eos_positions": mask.sum(1) - 1}
    batch = {"id": torch.arange(IMAGES), "nsentences": IMAGES, "ntokens": int(mask.sum()), "net_input": inputs}
    return {**batch, "image_features": images, "image_ids": ids}


def test_losses_and_negatives_are_those_of_the_published_code(monkeypatch):
    weights = draw_likeliest(monkeypatch)
    loss, rows, log = new_criterion()(golden_retrieval_network(ARRAYS), golden_batch())
    assert [int(row) for drawn in weights for row in drawn.argmax(1)] == GOLDEN["negative_choice_images_then_texts"]
    assert_golden(torch.cat(weights), GOLDEN["negative_weights"], rtol=1e-4, atol=1e-8)
    assert_golden(log["itc"] / rows, GOLDEN["loss_itc"])
    assert_golden(log["itm"] / rows, GOLDEN["loss_itm"])
    assert_golden(loss / rows, GOLDEN["loss_itc"] + GOLDEN["loss_itm"])


def test_all_rows_of_one_image_are_matched_with_no_negative():
    """The published code ends with an error there."""
    batch = golden_batch()
    batch["image_ids"] = torch.full((IMAGES,), 7)
    network = golden_retrieval_network(ARRAYS)
    with torch.no_grad():
        loss, rows, log = new_criterion(itc_weight=0.0)(network, batch)
        own = network(**batch["net_input"], images=batch["image_features"], ids=batch["image_ids"])["matching"][:IMAGES]
    expected = -own.double().log_softmax(1)[:, 1].mean()
    assert float(loss) / rows == pytest.approx(float(expected), rel=1e-5) and "itc" not in log


class Outputs:
    """A model that gives the same for any batch."""

    temperature, itm_head = torch.tensor(0.5), None

    def __init__(self, features):
        self.features = features

    def __call__(self, **inputs):
        return self.features


def small():
    features = {"text": det((3, 4), 1, 0), "image": det((3, 4), 1, 1), "matching": det((9, 2), 1, 2)}
    features["drawn"] = torch.ones(9, dtype=torch.bool)
    sample = {"nsentences": 3, "ntokens": 9, "net_input": {}, "image_features": None}
    return features, {**sample, "image_ids": torch.tensor([5, 6, 5])}


def losses(features, sample, **options):
    loss, rows, log = new_criterion(**options)(Outputs(features), sample)
    return float(loss) / rows, {name: float(log[name]) / rows for name in ("itc", "itm") if name in log}


def test_captions_of_one_image_share_the_target_and_weights_are_not_in_the_log():
    features, sample = small()
    text, image = (
        features[side].double() / features[side].double().norm(dim=1, keepdim=True) for side in ("text", "image")
    )
    target = torch.tensor([[0.5, 0, 0.5], [0, 1, 0], [0.5, 0, 0.5]], dtype=torch.float64)
    logits = text @ image.t() / 0.5
    itc = -0.5 * sum((target * x.log_softmax(1)).sum() for x in (logits, logits.t())) / 3
    labels = torch.tensor([1, 1, 1, 0, 0, 0, 0, 0, 0])
    itm = -features["matching"].double().log_softmax(1)[range(9), labels].mean()
    whole, values = losses(features, sample, itm_weight=0.25)
    assert values == {"itc": pytest.approx(float(itc), rel=1e-5), "itm": pytest.approx(float(itm), rel=1e-5)}
    assert whole == pytest.approx(float(itc + 0.25 * itm), rel=1e-5)


def test_rows_and_negatives_that_do_not_count_are_in_no_loss():
    features, sample = small()
    sample["counts"] = torch.tensor([True, True, False])
    features["drawn"][4] = False
    before = losses(features, sample)
    for name in ("text", "image"):
        features[name][2] = torch.nan
    features["matching"][[2, 4, 5, 8]] = torch.nan
    assert losses(features, sample) == before and before[0] == before[0]


def test_weights_are_numbers():
    with pytest.raises(UserError, match="--itm-weight -1 is not a number of at least 0"):
        new_criterion(itm_weight=-1.0)
