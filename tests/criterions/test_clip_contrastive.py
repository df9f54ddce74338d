"""The criterion that trains a dual encoder on images."""

from types import SimpleNamespace

import pytest
import torch
from fairseq.logging import metrics
from golden import assert_golden, det, load_golden

from mlvl_fairseq.criterions.clip_contrastive import ClipContrastiveConfig, ClipContrastiveCriterion
from mlvl_fairseq.distributed import GatheredRows
from mlvl_fairseq.losses import features


class DualEncoder:
    """A model whose features are its inputs."""

    temperature = torch.tensor(0.07)

    def __call__(self, text, images):
        return {"text": text, "image": images}


def new_criterion(**options):
    return ClipContrastiveCriterion(ClipContrastiveConfig(**options), SimpleNamespace(trains_image_tower=True))


def test_loss_is_the_contrastive_one_with_the_model_s_temperature():
    golden = load_golden("losses")
    sample = {
        "net_input": {"text": det((6, 5), 1, 0)},
        "image_features": det((6, 5), 1, 0.8),
        "image_ids": torch.tensor(golden["vision_ids"]),
        "nsentences": 6,
        "ntokens": 40,
    }
    criterion = new_criterion()
    loss, rows, log = criterion(DualEncoder(), sample)
    assert_golden(loss / rows, golden["only_crossmodal"]["loss"])
    assert log == {"loss": loss, "sample_size": 6, "nsentences": 6, "ntokens": 40}
    with metrics.aggregate() as logged:
        criterion.reduce_metrics([log])
    assert logged["loss"].avg == pytest.approx(golden["only_crossmodal"]["loss"], rel=1e-6)


def log_softmax_loss(text, image, ids, positives):
    """Mean over rows, in float64."""
    text, image = (x.double() / x.double().norm(dim=1, keepdim=True) for x in (text, image))
    own = torch.eye(len(ids)) if positives == "diagonal" else (ids[:, None] == ids) / (ids[:, None] == ids).sum(1)
    logits = text @ image.T / 0.07
    return -0.5 * sum((own * (x - x.logsumexp(1, keepdim=True))).sum() for x in (logits, logits.T)) / len(ids)


@pytest.mark.parametrize("positives", ["mean", "diagonal"])
def test_what_captions_of_one_image_are_to_each_other_is_an_option(positives):
    sample = {
        "net_input": {"text": det((6, 5), 1, 0)},
        "image_features": det((6, 5), 1, 0.8),
        "image_ids": torch.tensor([3, 3, 1, 0, 1, 2]),
        "nsentences": 6,
        "ntokens": 40,
    }
    loss, rows, _ = new_criterion(positives=positives)(DualEncoder(), sample)
    inputs = sample["net_input"]["text"], sample["image_features"], sample["image_ids"]
    assert float(loss) / rows == pytest.approx(float(log_softmax_loss(*inputs, positives)), rel=1e-5)


@pytest.mark.parametrize(
    "negatives, training, gathers", [("gather", True, 1), ("gather", False, 0), ("local", True, 0), ("local", False, 0)]
)
def test_ranks_gather_while_training_unless_told_otherwise(negatives, training, gathers, monkeypatch):
    """What each of them gives: tests/losses/test_gathered_losses.py and test_lilt_updates.py."""
    asked = []
    monkeypatch.setattr(features, "GatheredRows", lambda ids: asked.append(ids) or GatheredRows(ids))
    sample = {
        "net_input": {"text": det((2, 5), 1, 0)}, "image_features": det((2, 5), 1, 1), "image_ids": torch.arange(2),
        "nsentences": 2, "ntokens": 9,
    }  # fmt: skip
    new_criterion(negatives=negatives).train(training)(DualEncoder(), sample)
    assert len(asked) == gathers
