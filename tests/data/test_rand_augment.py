"""RandAugment against the published code's pixels, its two faults in one form only, and warps against a library's."""

import base64
import hashlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden import load_golden
from PIL import Image

from mlvl_fairseq.data.images import rand_augment as ra

GOLDEN = load_golden("pictures")
INPUTS = {
    name: Image.fromarray(np.frombuffer(base64.b64decode(text), np.uint8).reshape(32, 32, 3))
    for name, text in GOLDEN["inputs"].items()
}
OPERATIONS = [name for name in GOLDEN["sha256"] if "/" in name]


def digest(image):
    return hashlib.sha256(np.asarray(image).tobytes()).hexdigest()[:16]


def noise(height, width, low=0):
    return Image.fromarray(np.random.default_rng(0).integers(low, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize("case", OPERATIONS)
def test_operations_are_the_published_ones_to_the_bit(case):
    """Name, index of the sign (the first is that of the smaller argument, but of Rotate), picture."""
    name, sign, picture = case.split("/")
    signs = (1, -1) if name == "Rotate" else (-1, 1)
    change = ra.UNSIGNED[name]("reference") if name in ra.UNSIGNED else ra.SIGNED[name](signs[int(sign)])
    assert digest(change(INPUTS[picture])) == GOLDEN["sha256"][case]


def test_there_are_ten_operations_of_which_five_have_signs():
    assert len(OPERATIONS) == 45 and {case.partition("/")[0] for case in OPERATIONS} == set(ra.NAMES)


@pytest.mark.parametrize("seed", range(6))
def test_the_published_policy_with_its_draws(seed):
    drawn = np.random.RandomState(seed).choice(ra.NAMES, 2)
    assert drawn.tolist() == GOLDEN["policy_first_ops"][seed]
    image = ra.rand_augment(INPUTS["gradient"], "reference", np.random.RandomState(seed))
    assert digest(image) == GOLDEN["sha256"][f"policy_seed{seed}"]


def test_every_operation_and_sign_is_drawn_and_half_of_them_are_done(monkeypatch):
    done = []
    monkeypatch.setattr(ra, "changed", lambda image, name, form, generator: done.append(name) or image)
    generator = np.random.default_rng(0)
    for _ in range(2000):
        ra.rand_augment(INPUTS["noise"], "fixed", generator)
    assert abs(len(done) - 2000) < 130  # four standard deviations of 4,000 coins
    assert {name: abs(done.count(name) - 200) < 60 for name in ra.NAMES} == dict.fromkeys(ra.NAMES, True)
    monkeypatch.undo()
    for name in ra.SIGNED:
        pictures = {digest(ra.changed(INPUTS["noise"], name, "fixed", generator)) for _ in range(20)}
        assert len(pictures) == 2


@pytest.mark.parametrize("name", ["AutoContrast", "Sharpness"])
def test_the_two_faults_are_mended_by_default(name):
    """Against float64, cut at 0 and 255; the faulty form differs."""
    image = noise(20, 30, low=30)
    pixels = np.asarray(image, np.float64)
    if name == "AutoContrast":
        low, high = pixels.min((0, 1)), pixels.max((0, 1))
        expected = (pixels - low) * (255 / (high - low))
        assert (np.asarray(ra.auto_contrast(image, "reference")) == 255).all()
    else:
        kernel = torch.tensor([[1, 1, 1], [1, 5, 1], [1, 1, 1]], dtype=torch.float64).expand(3, 1, 3, 3) / 13
        blurred = F.conv2d(torch.from_numpy(pixels).permute(2, 0, 1)[None], kernel, groups=3)[0]
        blurred = blurred.permute(1, 2, 0).round().numpy()
        expected = pixels.copy()
        expected[1:-1, 1:-1] = blurred + 1.36 * (pixels[1:-1, 1:-1] - blurred)
        wrapped = np.asarray(ra.sharpness(image, 1.36, "reference")).astype(int)
        assert ((np.trunc(expected + np.sign(expected) * 1e-5) - wrapped) % 256 == 0).mean() > 0.99
        expected = expected.clip(0, 255)
        assert abs(wrapped - expected).max() > 100
    found = np.asarray(ra.UNSIGNED[name]("fixed")(image)).astype(float)
    assert abs(found - np.floor(expected + 1e-9)).max() <= 1  # products that are whole numbers may be cut to one less
    assert (found == np.floor(expected + 1e-5)).mean() > 0.99


def test_other_operations_are_the_same_in_both_forms():
    for name in ("Identity", "Equalize", "Brightness"):
        assert digest(ra.UNSIGNED[name]("fixed")(INPUTS["noise"])) == digest(
            ra.UNSIGNED[name]("reference")(INPUTS["noise"])
        )


def test_none_changes_and_draws_nothing():
    generator = np.random.default_rng(0)
    assert ra.rand_augment(INPUTS["noise"], "none", generator) is INPUTS["noise"]
    assert generator.random() == np.random.default_rng(0).random()


def test_one_value_stays_that_value():
    flat = Image.new("RGB", (9, 7), (30, 0, 255))
    for form in ("fixed", "reference"):
        for change in (*(make(form) for make in ra.UNSIGNED.values() if make is not ra.UNSIGNED["Brightness"]),):
            assert digest(change(flat)) == digest(flat)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 60), (61, 4), (40, 40)])
@pytest.mark.parametrize("factor", [-2.5, -0.21, 0.21, 0.37])
def test_shears_move_rows_as_the_general_warp_does(size, factor):
    image = noise(*size)
    for shear, matrix in ((ra.shear_x, [[1, factor, 0], [0, 1, 0]]), (ra.shear_y, [[1, 0, 0], [factor, 1, 0]])):
        assert digest(shear(image, factor)) == digest(ra.warped(image, np.float32(matrix)))
    shift = round(10 * factor)
    assert digest(ra.translate_x(image, shift)) == digest(ra.warped(image, np.array([[1, 0, -shift], [0, 1, 0.0]])))
    assert digest(ra.translate_y(image, shift)) == digest(ra.warped(image, np.array([[1, 0, 0], [0, 1.0, -shift]])))


def test_rotation_is_torchs_bilinear_one_to_a_level():
    """On a smooth picture that is not square; torch's grid is of the centres of pixels, about the middle of the middle
    four: half a pixel away from OpenCV's (W / 2, H / 2)."""
    height, width, degrees = 40, 60, 21
    y, x = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    smooth = np.stack([128 + 60 * np.sin(x / 9), 128 + 60 * np.cos(y / 7), 128 + 50 * np.sin((x + y) / 11)], axis=2)
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    from_x = width / 2 + cos * (x - width / 2) - sin * (y - height / 2)
    from_y = height / 2 + sin * (x - width / 2) + cos * (y - height / 2)
    grid = np.stack([2 * from_x / (width - 1) - 1, 2 * from_y / (height - 1) - 1], axis=2)
    source = torch.from_numpy(np.rint(smooth)).permute(2, 0, 1)[None] - 128
    expected = F.grid_sample(source, torch.from_numpy(grid)[None], align_corners=True)[0].permute(1, 2, 0) + 128
    found = np.asarray(ra.rotate(Image.fromarray(np.rint(smooth).astype(np.uint8)), degrees)).astype(float)
    inside = (from_x > 0) & (from_x < width - 1) & (from_y > 0) & (from_y < height - 1)
    assert inside.mean() > 0.5 and abs(found - expected.numpy())[inside].max() < 1.5
    assert (found[0, 0] == 128).all()
