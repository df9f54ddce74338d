import pytest
import torch

from mlvl_fairseq.fairseq_patches import import_clip


@pytest.fixture(scope="session")
def new_clip():
    """Makes small `clip.model.CLIP` models, initialised as that package does."""
    model = import_clip().model

    def build():
        torch.manual_seed(0)
        return model.CLIP(48, 32, 2, 128, 8, 12, 120, 64, 1, 2).eval()

    return build


@pytest.fixture(scope="session")
def random_clip(new_clip):
    """The same with every parameter random, biases too, so that a forgotten one shows."""
    clip_model = new_clip()
    with torch.no_grad():
        for parameter in clip_model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return clip_model
