import numpy as np
import pytest
import torch
from PIL import Image

from mlvl_fairseq.fairseq_patches import import_clip

SIZE = 32


@pytest.fixture(scope="session")
def small_clip(tmp_path_factory):
    """An official CLIP file of one layer a tower, with CLIP's vocabulary and ViT-B/32's 512 dimensions."""
    torch.manual_seed(0)
    model = import_clip().model.CLIP(512, SIZE, 1, 64, 8, 77, 49408, 64, 1, 1)
    path = tmp_path_factory.mktemp("clip") / "ViT-B-32.pt"
    torch.save({**model.state_dict(), "context_length": torch.tensor(77)}, path)
    return path


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Three pictures of other sizes than the model's."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for name, shape in (("ball.png", (40, 36)), ("dogs.jpg", (60, 90)), ("street.jpg", (33, 64))):
        small = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8))
        small.resize(shape[::-1]).save(folder / name)
    return folder
