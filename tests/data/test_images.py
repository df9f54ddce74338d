"""CLIP's preprocessing against the clip package, safe decoding, and the policy for bad images."""

import logging
import pickle
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from mlvl_fairseq.data.images.reading import BadImagePolicy, ImageDataset, load_image
from mlvl_fairseq.data.images.transforms import ImageTransform, register_transform
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.fairseq_patches import import_clip


def noise(height, width, channels=None, dtype=np.uint8):
    shape = (height, width) if channels is None else (height, width, channels)
    high = np.iinfo(dtype).max
    return np.random.default_rng(0).integers(0, high, shape, endpoint=True).astype(dtype)


def rgb(height=37, width=53):
    return Image.fromarray(noise(height, width, 3))


IMAGES = {
    "odd": rgb(),
    "portrait": rgb(61, 43),
    "exact": rgb(32, 32),
    "tiny": rgb(1, 1),
    "strip": rgb(3, 400),
    "rgba": Image.fromarray(noise(37, 53, 4)),
    "cmyk": rgb().convert("CMYK"),
    "ycbcr": rgb().convert("YCbCr"),
    "grey": Image.fromarray(noise(37, 53)),
    "grey and alpha": Image.fromarray(noise(37, 53)).convert("LA"),
    "16 bit": Image.fromarray(noise(37, 53, dtype=np.uint16)),
    "palette": rgb().quantize(16),
    "black and white": Image.fromarray(noise(37, 53)).convert("1"),
}


@pytest.mark.parametrize("kind", IMAGES)
@pytest.mark.parametrize("size", [32, 33])
def test_preprocessing_is_bit_identical_to_clips(kind, size):
    theirs = import_clip().clip._transform(size)(IMAGES[kind])
    ours = ImageTransform("clip", size)(IMAGES[kind])
    assert ours.shape == (3, size, size) and ours.dtype == torch.float32
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("size, resized, left, top", [(224, (330, 248), 53, 12), (75, (110, 83), 18, 4)])
def test_mclips_preprocessing_cuts_224_of_248(size, resized, left, top):
    """As published: the shorter side to 248, the middle 224 x 224, CLIP's statistics; others in proportion."""
    picture = rgb(300, 400)
    middle = picture.resize(resized, Image.Resampling.BICUBIC).crop((left, top, left + size, top + size))
    pixels = np.asarray(middle, np.float32).transpose(2, 0, 1) / 255
    mean, std = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
    expected = (pixels - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    np.testing.assert_allclose(ImageTransform("mclip", size)(picture), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["rgba", "palette", "16 bit", "cmyk"])
def test_dataset_gives_what_clip_gives_for_the_file(tmp_path, kind):
    name = f"{kind}.tiff"
    IMAGES[kind].save(tmp_path / name)
    loaded = ImageDataset(tmp_path, [name], ImageTransform("clip", 32))[0]
    assert loaded.problem is None
    assert torch.equal(loaded.pixels, import_clip().clip._transform(32)(Image.open(tmp_path / name)))


def test_load_image_gives_rgb(tmp_path):
    for kind in ("rgba", "palette", "grey", "cmyk"):
        path = tmp_path / f"{kind}.tiff"
        IMAGES[kind].save(path)
        image = load_image(path)
        assert image.mode == "RGB" and image.size == (53, 37)
        assert np.array_equal(np.asarray(image), np.asarray(Image.open(path).convert("RGB")))
    assert load_image(tmp_path / "palette.tiff", mode=None).mode == "P"


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert load_image(tmp_path / "a.gif").getpixel((4, 4)) == (255, 0, 0)


def png_header(width, height):
    """A PNG that announces its size and ends where its pixels should begin."""

    def chunk(kind, content):
        return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")

    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size + bytes([8, 2, 0, 0, 0])) + chunk(b"IDAT", b"")


BAD_FILES = {
    "empty.jpg": (b"", "not an image of a known format"),
    "text.png": (b"no image at all", "not an image of a known format"),
    "vector.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image of a known format"),
    "bomb.png": (png_header(30_000, 30_000), "DecompressionBombError"),
    "large.png": (png_header(10_000, 9_500), "10000 x 9500 pixels are more than the limit of 89478485"),
    "line.png": (png_header(10_000, 1), "10000 x 1 pixels: a side is over 200 times the other"),
    "headless.png": (png_header(10, 10), "cannot be decoded"),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_explained(tmp_path, name):
    content, message = BAD_FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name}: .*({message})"):
        load_image(tmp_path / name)


def test_truncated_and_missing_files_are_explained(tmp_path):
    path = tmp_path / "cut.jpg"
    rgb(100, 100).save(path)
    path.write_bytes(path.read_bytes()[:800])
    with pytest.raises(DataError, match="cut.jpg: cannot be decoded .*truncated"):
        load_image(path)
    with pytest.raises(DataError, match="absent.jpg: no such image"):
        load_image(tmp_path / "absent.jpg")
    with pytest.raises(DataError, match="no such image"):
        load_image(tmp_path)


def test_pixel_limit_can_be_set(tmp_path):
    rgb(20, 30).save(tmp_path / "a.png")
    assert load_image(tmp_path / "a.png", max_pixels=600).size == (30, 20)
    with pytest.raises(DataError, match="30 x 20 pixels are more than the limit of 599"):
        load_image(tmp_path / "a.png", max_pixels=599)


def test_policy_stops_counts_and_limits(caplog):
    with pytest.raises(DataError, match="broken .*--bad-image skip"):
        BadImagePolicy("error").accept("broken", 1)
    policy = BadImagePolicy("skip", limit=2)
    with caplog.at_level(logging.WARNING):
        policy.accept("first", 1)
        policy.accept("second", 2)
    assert [record.message for record in caplog.records] == [
        "bad image 1 (2 are allowed): first",
        "bad image 2 (2 are allowed): second",
    ]
    with pytest.raises(DataError, match=r"third \(bad image 3; --max-bad-images allows 2\)"):
        policy.accept("third", 3)
    with pytest.raises(UserError, match="--bad-image ignore: choose one of error, skip"):
        BadImagePolicy("ignore")


def test_transforms_go_by_name_and_travel_as_one():
    transform = ImageTransform("clip", 33)
    assert str(transform) == "clip@33"
    sent = pickle.loads(pickle.dumps(transform))
    assert sent == transform and torch.equal(sent(IMAGES["odd"]), transform(IMAGES["odd"]))
    with pytest.raises(UserError, match="no image transform 'clap'; there are: .*clip"):
        ImageTransform("clap", 33)


def test_a_transform_is_registered_once(monkeypatch):
    monkeypatch.setattr("mlvl_fairseq.data.images.transforms.TRANSFORMS", {})

    @register_transform("mean")
    def mean(size):
        return lambda image: torch.full((3, size, size), float(np.asarray(image).mean()))

    assert torch.equal(ImageTransform("mean", 2)(Image.new("L", (4, 4), 7)), torch.full((3, 2, 2), 7.0))
    with pytest.raises(ValueError, match="registered already"):
        register_transform("mean")(mean)
