"""A few records of every kind of stream, and a training on them."""

import base64
import io
import json

import numpy as np
from PIL import Image

WORDS = "ein hund a dog on the field runs near river mann frau".split()
NAMES = {"image_text": "image", "regions": "region", "parallel_text": "text", "monolingual": "mono"}
TRAINING = (
    "--task cclm_pretraining --arch cclm_tiny --criterion cclm_pretraining --optimizer adam --lr 1e-3 --batch-size 4 "
    "--num-workers 0 --cpu --no-epoch-checkpoints --log-format json --log-interval 1 --augment"
).split()


def picture(draw):
    pixels = draw.integers(0, 256, (40, 48, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return base64.b64encode(content.getvalue()).decode()


def text(draw):
    return " ".join(draw.choice(WORDS, int(draw.integers(3, 8))))


def rows(name, number, seed=0):
    """Records of a kind of stream."""
    draw = np.random.default_rng([seed, number])

    def caption():
        return {"en": text(draw), "de": text(draw)}

    def element():
        return {"bb": [*draw.integers(0, 20, 2).tolist(), *draw.integers(5, 20, 2).tolist()], "caption": caption()}

    make = {
        "image_text": lambda: {"binary": picture(draw), "caption": [caption()]},
        "regions": lambda: {"binary": picture(draw), "caption": caption(), "elems": [element() for _ in range(4)]},
        "parallel_text": lambda: {"source_text": text(draw), "target_text": text(draw)},
        "monolingual": lambda: {"binary": picture(draw), "desc": [text(draw)]},
    }
    return [make[name]() for _ in range(number)]


def write(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def write_streams(folder, number=16):
    """``{kind}.jsonl`` with so many records each; gives the options that name them."""
    files = {name: write(folder / f"{name}.jsonl", rows(name, number)) for name in NAMES}
    return [option for name, path in files.items() for option in (f"--{name.replace('_', '-')}", path)]
