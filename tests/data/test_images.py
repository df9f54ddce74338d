"""CLIP's preprocessing against the clip package, safe decoding, and the policy for bad images."""

import logging
import os
import pickle
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from mlvl_fairseq.data.images.policy import BadImagePolicy
from mlvl_fairseq.data.images.reading import ImageDataset, load_image, read_image, tell_of_doubts
from mlvl_fairseq.data.images.transforms import ImageTransform, reading_of, register_transform, scaled
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


def test_high_bit_depths_are_scaled_by_their_own_range():
    ramp = np.random.default_rng(0).permutation(np.linspace(-3, 1021, 20 * 30)).reshape(20, 30)
    for values in (ramp, ramp.astype(np.int32), (ramp + 3).astype(np.uint16), (ramp + 3).astype(">u2")):
        image = Image.fromarray(values.astype(np.float32) if values.dtype == np.float64 else values)
        exact = np.asarray(image).astype(np.float64)
        expected = np.rint(255 * (exact - exact.min()) / (exact.max() - exact.min()))
        assert np.abs(np.asarray(scaled(image), np.float64) - expected).max() == 0 and scaled(image).mode == "L"
        wide, narrow = (ImageTransform("clip", 16, depth)(image) for depth in ("scale", "clip"))
        assert torch.equal(wide, ImageTransform("clip", 16)(Image.fromarray(expected.astype(np.uint8))))
        assert not torch.equal(wide, narrow)
    assert not np.asarray(scaled(Image.fromarray(np.full((4, 4), 9, np.uint16)))).any()
    odd = np.array([[np.nan, 0.0], [2.0, 4.0]], np.float32)
    assert np.asarray(scaled(Image.fromarray(odd))).tolist() == [[0, 0], [128, 255]]


@pytest.mark.parametrize("kind", ["odd", "cmyk", "palette", "grey and alpha", "black and white"])
def test_other_pictures_are_not_scaled(kind):
    assert scaled(IMAGES[kind]) is IMAGES[kind]
    assert torch.equal(ImageTransform("clip", 32, "scale")(IMAGES[kind]), ImageTransform("clip", 32)(IMAGES[kind]))


def test_there_are_two_ways_to_read_high_bit_depths():
    with pytest.raises(UserError, match="--high-bit-depth stretch: choose one of clip, scale"):
        ImageTransform("clip", 16, "stretch")
    assert reading_of("clip") is None and reading_of("scale") == "high-bit-depth=scale"
    assert ImageTransform("clip", 16, "scale") != ImageTransform("clip", 16)


WIDE = np.linspace(0, 65535, 40 * 40).reshape(40, 40)


@pytest.mark.parametrize(
    "name, values, doubt",
    [
        ("a.png", WIDE.astype(np.uint16), "16-bit values from 0 to 65535 are cut to 0 ... 255"),
        ("a.tif", WIDE.astype(np.uint16), "16-bit values"),
        ("b.tif", WIDE.astype(np.int32), "32-bit values"),
        ("c.tif", (WIDE / 65535).astype(np.float32), "floating point values from 0 to 1 are cut"),
        ("d.tif", (WIDE / 257).astype(np.float32), None),
        ("e.png", (WIDE / 257).astype(np.uint16), None),
        ("f.png", (WIDE / 257).astype(np.uint8), None),
        ("g.png", np.full((40, 40, 3), (1, 2, 3), np.uint8), "is of one colour"),
    ],
)
def test_pictures_that_show_nothing_are_doubted(tmp_path, name, values, doubt):
    Image.fromarray(values).save(tmp_path / name)
    image = read_image(tmp_path / name, ImageTransform("clip", 16))
    assert image.problem is None and image.pixels.shape == (3, 16, 16)
    assert image.doubt is None if doubt is None else f"{name}: {doubt}" in image.doubt
    wide = read_image(tmp_path / name, ImageTransform("clip", 16, "scale"))
    assert (wide.doubt is not None) == (name == "g.png")


def test_doubts_are_counted_with_examples(caplog):
    tell_of_doubts([], 0, 9, "train")
    tell_of_doubts(list("abcde"), 5, 9, "train")
    assert [r.message for r in caplog.records] == ["train: 5 of 9 pictures show (nearly) one colour only: a; b; c"]


def test_what_cannot_be_read_or_transformed_is_a_problem(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    rgb().save(tmp_path / "a.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")

    def refuses(image):
        raise ValueError("conversion from La to L not supported")

    transform = ImageTransform("clip", 16)
    problems = [
        read_image(tmp_path / "pipe.png", transform).problem,
        read_image("/dev/zero", transform).problem,
        read_image(tmp_path / "gone.png", transform).problem,
        read_image(tmp_path / "a.png", transform, max_pixels=10).problem,
        read_image(tmp_path / "a.png", refuses).problem,
    ]
    expected = ["is a pipe", "is a device", "no such file", "more than the limit of 10", "mode RGB; ValueError: conver"]
    for problem, part in zip(problems, expected):
        assert part in problem
    assert "/a.png: cannot be made the network's input" in problems[-1]


def test_bombs_are_problems_and_no_warnings(tmp_path, monkeypatch, recwarn):
    rgb(40, 40).save(tmp_path / "a.png")
    for limit in (1500, 700):  # Pillow warns beyond its limit, and refuses beyond twice that
        monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", limit)
        monkeypatch.setattr("mlvl_fairseq.data.images.reading.MAX_PIXELS", limit)
        problem = read_image(tmp_path / "a.png", ImageTransform("clip", 16), max_pixels=limit).problem
        assert "a.png: " in problem and ("limit" in problem)


@pytest.mark.parametrize("kind", ["animated", "rotated", "palette"])
def test_unusual_files_are_read_as_clip_reads_them(tmp_path, kind):
    path, frames = tmp_path / f"a.{'gif' if kind == 'animated' else 'png'}", [rgb(20, 30), rgb(20, 30).rotate(180)]
    if kind == "animated":
        frames[0].save(path, save_all=True, append_images=frames[1:])
    elif kind == "rotated":
        exif = Image.Exif()
        exif[0x0112] = 6  # turned by 90 degrees
        frames[0].save(path, exif=exif)
    else:
        frames[0].quantize(16).save(path, transparency=3)
    theirs = import_clip().clip._transform(16)(Image.open(path))
    assert torch.equal(read_image(path, ImageTransform("clip", 16)).pixels, theirs)
