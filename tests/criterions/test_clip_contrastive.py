"""The criterion that trains a dual encoder on images."""

from types import SimpleNamespace

import pytest
import torch
from fairseq.logging import metrics
from golden import assert_golden, det, load_golden

from mlvl_fairseq.criterions.clip_contrastive import ClipContrastiveConfig, ClipContrastiveCriterion


class DualEncoder:
    """A model whose features are its inputs."""

    temperature = torch.tensor(0.07)

    def __call__(self, text, images):
        return {"text": text, "image": images}


def test_loss_is_the_contrastive_one_with_the_model_s_temperature():
    golden = load_golden("losses")
    sample = {
        "net_input": {"text": det((6, 5), 1, 0)},
        "image_features": det((6, 5), 1, 0.8),
        "image_ids": torch.tensor(golden["vision_ids"]),
        "nsentences": 6,
        "ntokens": 40,
    }
    criterion = ClipContrastiveCriterion(ClipContrastiveConfig(), SimpleNamespace(trains_image_tower=True))
    loss, rows, log = criterion(DualEncoder(), sample)
    assert_golden(loss / rows, golden["only_crossmodal"]["loss"])
    assert log == {"loss": loss, "sample_size": 6, "nsentences": 6, "ntokens": 40}
    with metrics.aggregate() as logged:
        criterion.reduce_metrics([log])
    assert logged["loss"].avg == pytest.approx(golden["only_crossmodal"]["loss"], rel=1e-6)
