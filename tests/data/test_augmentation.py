"""LilT's pictures: the square of evaluation, and what is drawn for training."""

import base64

import numpy as np
import pytest
import torch
from golden import load_golden
from PIL import Image, ImageOps
from torchvision.transforms import RandomResizedCrop

from mlvl_fairseq.data.images.augmentation import Augmentation, AugmentationOptions, middle
from mlvl_fairseq.data.images.transforms import ImageTransform, random_part
from mlvl_fairseq.errors import UserError

MEAN = {"lilt": (0.48145466, 0.4578275, 0.40821073), "imagenet_square": (0.485, 0.456, 0.406)}
STD = {"lilt": (0.26862954, 0.26130258, 0.27577711), "imagenet_square": (0.229, 0.224, 0.225)}


def noise(height, width):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def test_evaluation_squeezes_pictures_as_published():
    """Pixels of Pillow 8.3.2; other versions differ on noise, hence the mean."""
    golden = {
        name: np.frombuffer(base64.b64decode(text), np.uint8)
        for name, text in load_golden("pictures")["transform"].items()
    }
    found = ImageTransform("lilt", 32)(Image.fromarray(golden["pixels"].reshape(40, 30, 3)))
    levels = torch.from_numpy(golden["levels"].reshape(3, 32, 32).copy())
    expected = (levels / 255 - torch.tensor(MEAN["lilt"])[:, None, None]) / torch.tensor(STD["lilt"])[:, None, None]
    assert found.shape == (3, 32, 32) and (found - expected).abs().mean() < 0.01


@pytest.mark.parametrize("name", MEAN)
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_squares_are_of_the_whole_picture(name, mode):
    picture = noise(50, 91).convert(mode)
    pixels = np.asarray(picture.convert("RGB").resize((24, 24), Image.Resampling.BICUBIC), np.float64) / 255
    expected = ((pixels - MEAN[name]) / STD[name]).transpose(2, 0, 1)
    np.testing.assert_allclose(ImageTransform(name, 24)(picture), expected, atol=1e-5)


@pytest.mark.parametrize("size", [(400, 300), (100, 700), (640, 50), (7, 7), (1, 1)])
def test_parts_have_the_share_and_the_shape_that_torchvisions_have(size):
    generator, torch_parts = np.random.default_rng(0), []
    parts = [random_part(size, (0.2, 1), generator) or middle(size) for _ in range(300)]
    image = torch.empty(0, size[1], size[0])
    torch.manual_seed(0)
    for _ in range(300):
        torch_parts.append(RandomResizedCrop.get_params(image, [0.2, 1.0], [3 / 4, 4 / 3]))
    ours = np.array([(top, left, bottom - top, right - left) for left, top, right, bottom in parts])
    theirs = np.array(torch_parts)
    for column in range(4):  # means within four standard errors, and the same range
        deviation = theirs[:, column].std() + ours[:, column].std()
        assert abs(ours[:, column].mean() - theirs[:, column].mean()) <= 1e-9 + 4 * deviation / np.sqrt(300)
    assert (ours[:, :2].min(0) >= 0).all()
    assert (ours[:, 0] + ours[:, 2] <= size[1]).all() and (ours[:, 1] + ours[:, 3] <= size[0]).all()


@pytest.mark.parametrize("size", [(1000, 100), (100, 1000), (130, 100), (1, 1)])
def test_the_middle_is_torchvisions(size, monkeypatch):
    image = torch.empty(0, size[1], size[0])
    top, left, height, width = RandomResizedCrop.get_params(image, [1.5, 1.5], [3 / 4, 4 / 3])  # fits never
    assert middle(size) == (left, top, left + width, top + height)


def test_the_order_is_part_mirror_changes():
    picture = noise(60, 80)
    plain = Augmentation((0.2, 1), 0, "none")(picture, 16, np.random.default_rng(5))
    part = random_part(picture.size, (0.2, 1), np.random.default_rng(5))
    assert np.array_equal(plain, picture.crop(part).resize((16, 16), Image.Resampling.BICUBIC))
    mirrored = Augmentation((0.2, 1), 1, "none")(picture, 16, np.random.default_rng(5))
    assert np.array_equal(mirrored, ImageOps.mirror(plain))
    flips = [Augmentation((1, 1), 0.5, "none")(noise(9, 9), 9, np.random.default_rng(seed)) for seed in range(400)]
    assert abs(sum(not np.array_equal(flip, noise(9, 9)) for flip in flips) - 200) < 40
    changed = [Augmentation((1, 1), 0, "fixed")(noise(9, 9), 9, np.random.default_rng(seed)) for seed in range(20)]
    assert len({image.tobytes() for image in changed}) > 5
    assert Augmentation()(Image.new("LA", (3, 500)), 8, np.random.default_rng(0)).size == (8, 8)


def test_options():
    assert Augmentation.of(AugmentationOptions()) is None
    assert Augmentation.of(AugmentationOptions(augment=True)) == Augmentation((0.2, 1.0), 0.5, "fixed")
    given = AugmentationOptions(True, "0.5, 1", 0, "reference")
    assert Augmentation.of(given) == Augmentation((0.5, 1), 0, "reference")


@pytest.mark.parametrize("options, message", [
    ({"crop_scale": "0.2"}, "--crop-scale '0.2': give two shares"),
    ({"crop_scale": "0,1"}, "--crop-scale 0,1: give two shares"),
    ({"crop_scale": "0.9,0.1"}, "--crop-scale 0.9,0.1"),
    ({"crop_scale": "nan,1"}, "--crop-scale nan,1"),
    ({"flip": 1.5}, "--flip 1.5 is no probability"),
    ({"rand_augment": "all"}, "--rand-augment all: choose one of fixed, reference, none"),
    ({"augment": False, "rand_augment": "reference"}, "--rand-augment reference goes with --augment"),
    ({"augment": False, "flip": 0.0}, "--flip 0.0 goes with --augment"),
])  # fmt: skip
def test_options_that_cannot_be(options, message):
    with pytest.raises(UserError, match=message):
        Augmentation.of(AugmentationOptions(**{"augment": True, **options}))
