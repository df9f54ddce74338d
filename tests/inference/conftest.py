import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Three pictures of other sizes than the model's."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for name, shape in (("ball.png", (40, 36)), ("dogs.jpg", (60, 90)), ("street.jpg", (33, 64))):
        small = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8))
        small.resize(shape[::-1]).save(folder / name)
    return folder
