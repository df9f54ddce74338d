"""Small pictures that differ, for tests of whole folders of them."""

import numpy as np
from PIL import Image

NAMES = ["a.png", "b.jpg", "c.png", "d.png", "e.png", "sub/f.png", "sub/g.jpg", "sub/h.png"]


def draw(path, seed):
    """A picture of 3 x 3 coloured fields; each seed another one."""
    small = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (3, 3, 3), np.uint8))
    path.parent.mkdir(parents=True, exist_ok=True)
    small.resize((48, 36), Image.NEAREST).save(path)
