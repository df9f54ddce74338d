"""A trained model on a folder of classes, by the command, against the Python interface."""

import json

import numpy as np
import pytest
from PIL import Image

from mlvl_fairseq.inference import Encoder


@pytest.fixture
def colours(tmp_path):
    """Four pictures each of two classes."""
    rng = np.random.default_rng(0)
    for channel, name in enumerate(("red_ball", "green_box")):
        for number in range(4):
            pixels = rng.integers(0, 90, (40, 30, 3)).astype(np.uint8)
            pixels[..., channel] += 120
            path = tmp_path / "set" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return tmp_path / "set"


def test_any_model_is_scored(succeed, run, teacher, colours, tmp_path):
    """As the Python interface says, in float64; several templates; several languages in a folder."""
    command = ["mlvl-evaluate", "classification", "--checkpoint", teacher, "--data-set", "folder", "--root", colours]
    templates = ["--template", "a {} on the table", "--template", "{}"]
    result = json.loads(succeed(*command, *templates, "--num-workers", 1))
    encoder = Encoder.load(teacher)
    names = sorted(str(path.relative_to(colours)) for path in colours.rglob("*.png"))
    images = unit(encoder.encode_image_files(colours, names))
    texts = unit(encoder.encode_texts(["a green box on the table", "a red ball on the table", "green box", "red ball"]))
    classes = unit(texts[:2] + texts[2:])
    right = np.array([0] * 4 + [1] * 4)
    assert result["top1"] == pytest.approx(100 * np.mean((images @ classes.T).argmax(axis=1) == right))
    assert "|set:folder|classes:2|prompts:" in result["signature"] and "(2 templates)" in result["signature"]
    ended = run(*command, "--template", "no place")
    assert ended.error == "--template: template 'no place' has no place for the class: write {} there"
    ended = run(*command[:-1], tmp_path / "nothing")
    assert ended.error.endswith("No such file or directory; give a folder with a folder for each class")


def unit(rows):
    rows = rows.astype(np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_a_linear_probe(succeed, run, teacher, colours, tmp_path):
    train = tmp_path / "train"
    train.mkdir()
    for name in ("red_ball", "green_box"):
        (train / name).mkdir()
        for number in (0, 1):
            (colours / name / f"{number}.png").rename(train / name / f"{number}.png")
    command = ["mlvl-evaluate", "linear_probe", "--checkpoint", teacher, "--data-set", "folder", "--root", colours]
    result = json.loads(succeed(*command, "--train-root", train, "--shots", 2, "--seeds", 1))
    assert result["top1"] > 50 and "|set:folder|classes:2|train:" in result["signature"]
    assert "both trained and tested on" in run(*command).error
