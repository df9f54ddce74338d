import pytest
import torch

from mlvl_fairseq.fairseq_patches import import_clip


@pytest.fixture(scope="session")
def official_clip():
    """A small model of the official kind: ViT, 64 dimensions a head, random weights, half precision like the files."""
    model = import_clip().model
    torch.manual_seed(0)
    clip_model = model.CLIP(32, 16, 2, 64, 8, 10, 60, 64, 1, 2).eval()
    model.convert_weights(clip_model)
    return clip_model
