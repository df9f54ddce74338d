"""What a teacher makes of a corpus: the type of its features, of its products, and how JPEG files are decoded."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mlvl_fairseq.data.captions import read_captions
from mlvl_fairseq.data.corpus.build import build_corpus
from mlvl_fairseq.data.feature_extraction import image_batches
from mlvl_fairseq.data.feature_manifest import read_feature_manifest
from mlvl_fairseq.data.feature_options import FeatureOptions
from mlvl_fairseq.data.images.reading import ImageDataset, decode_image, load_image
from mlvl_fairseq.data.images.transforms import ImageTransform
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.inference.encoder import Encoder
from mlvl_fairseq.inference.extraction import extract_teacher_features, is_half
from mlvl_fairseq.networks.base import Encoded

SIZE, DIM = 8, 4


class Network(nn.Module):
    """A product of the pixels; the same of the number of letters."""

    embed_dim, max_length, preprocess, text_languages = DIM, 9, ImageTransform("clip", SIZE), ()

    def __init__(self):
        super().__init__()
        self.project = nn.Linear(3 * SIZE * SIZE, DIM, bias=False)

    def frozen_tower(self, which):
        return None

    def encode_image(self, images):
        return Encoded(self.project(images.flatten(1)), None, None)

    def encode_text(self, tokens, ends, lang):
        return Encoded(self.project(ends[:, None].float().expand(-1, 3 * SIZE * SIZE) / 7), None, None)


class Letters:
    pad = 0

    def of_language(self, lang):
        return self

    def tokenize(self, captions, max_length):
        return [[1] * len(caption) for caption in captions]


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return Encoder(Network().eval(), Letters(), "f" * 64, [], "teacher.pt")


@pytest.fixture
def corpus(tmp_path):
    generator = np.random.default_rng(0)
    for number in range(5):
        Image.fromarray(generator.integers(0, 255, (50, 40, 3), np.uint8)).save(tmp_path / f"{number}.jpg")
    rows = [{"image": f"{number}.jpg", "caption": "a" * (number + 1)} for number in range(5)]
    (tmp_path / "en.json").write_text(json.dumps(rows))
    tables = {"train": {"en": read_captions(tmp_path / "en.json")}}
    return build_corpus(tmp_path / "corpus", tables, image_root=tmp_path)


def features(corpus):
    return {kind: np.array(corpus.features("train", kind)) for kind in ("image", "text")}


def extracted(corpus, encoder, **options):
    extract_teacher_features(corpus, encoder, batch_size=2, options=FeatureOptions(**options))
    return features(corpus)


def test_features_are_kept_in_the_type_of_the_teachers_own_weights(corpus, encoder):
    assert not is_half(encoder.network)
    weights = encoder.network.project.weight
    weights.data = weights.data.half().float()
    assert is_half(encoder.network)
    found = extracted(corpus, encoder)
    assert {kind: array.dtype.name for kind, array in found.items()} == {"image": "float16", "text": "float16"}
    pixels = torch.stack([encoder.preprocess(load_image(f"{corpus.folder.parent}/{n}.jpg")) for n in range(5)])
    expected = pixels.flatten(1).double().numpy() @ weights.double().detach().numpy().T
    assert np.allclose(found["image"], expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_the_type_can_be_chosen_and_what_is_there_is_continued(corpus, encoder, dtype):
    other = "float32" if dtype == "float16" else "float16"
    first = extracted(corpus, encoder, feature_dtype=dtype)
    assert first["image"].dtype == first["text"].dtype == dtype
    weights = encoder.network.project.weight
    weights.data = weights.data.half().float() if dtype == "float32" else weights.data
    assert np.array_equal(extracted(corpus, encoder)["image"], first["image"])  # although the default is another
    with pytest.raises(DataError, match=f"made with dtype {dtype}, now it is {other}"):
        extracted(corpus, encoder, feature_dtype=other)


def test_products_in_bfloat16_are_said_and_not_mixed_with_others(corpus, encoder):
    exactly = extracted(corpus, encoder)
    manifest = (corpus.folder / "features" / "train.image.json").read_text()
    assert "precision" not in manifest  # as earlier versions wrote it
    with pytest.raises(DataError, match="made with precision None, now it is bfloat16"):
        extracted(corpus, encoder, autocast="bf16")
    for path in (corpus.folder / "features").iterdir():
        path.unlink()
    rounded = extracted(corpus, encoder, autocast="bf16")
    for kind in exactly:
        assert rounded[kind].dtype == np.float32 and not np.array_equal(rounded[kind], exactly[kind])
        assert np.abs(rounded[kind] - exactly[kind]).max() < 0.02 * np.abs(exactly[kind]).max()
        as_bfloat16 = torch.from_numpy(rounded[kind]).bfloat16().float().numpy()
        assert np.array_equal(as_bfloat16, rounded[kind])  # the products themselves, not only what goes in
        assert read_feature_manifest(corpus.feature_stem("train", kind)).precision == "bfloat16"
    with pytest.raises(DataError, match="made with precision bfloat16, now it is None"):
        extracted(corpus, encoder)


def test_draft_decoding_is_said_and_gives_other_pixels(corpus, encoder):
    drafted = extracted(corpus, encoder, draft_jpeg=True)
    assert read_feature_manifest(corpus.feature_stem("train", "image")).pictures == "draft-jpeg"
    with pytest.raises(DataError, match="made with pictures draft-jpeg, now it is None"):
        extracted(corpus, encoder)
    for path in (corpus.folder / "features").iterdir():
        path.unlink()
    assert not np.array_equal(extracted(corpus, encoder)["image"], drafted["image"])


@pytest.mark.parametrize("transform, size, decoded", [
    (ImageTransform("clip", 8, draft=True), (64, 40), (16, 10)),
    (ImageTransform("clip", 8), (64, 40), (64, 40)),
    (ImageTransform("clip", 10, draft=True), (40, 200), (10, 50)),
    (ImageTransform("mclip", 10, draft=True), (40, 200), (20, 100)),  # resized to 11
    (ImageTransform("clip", 30, draft=True), (40, 50), (40, 50)),
])  # fmt: skip
def test_draft_decoding_leaves_enough_to_resize(tmp_path, transform, size, decoded):
    Image.new("RGB", size).save(tmp_path / "a.jpg")
    Image.new("RGB", size).save(tmp_path / "a.png")
    assert load_image(tmp_path / "a.jpg", least_side=transform.least_side).size == decoded
    assert load_image(tmp_path / "a.png", least_side=transform.least_side).size == size
    with open(tmp_path / "a.jpg", "rb") as file, pytest.raises(DataError, match="pixels are more than the limit"):
        decode_image(file, "a.jpg", max_pixels=size[0] * size[1] - 1, least_side=transform.least_side)


def test_pictures_are_read_by_processes_where_there_is_room(corpus, monkeypatch, caplog):
    images = ImageDataset(corpus.folder.parent, corpus.images("train"), ImageTransform("clip", SIZE))
    assert image_batches(images, 2, 8).num_workers == 3  # as many as batches
    assert image_batches(images, 5, 8).num_workers == 0
    read = torch.cat([batch.pixels for batch in image_batches(images, 2, 2)])
    assert torch.equal(read, torch.stack([image.pixels for image in images]))

    def usage(path):
        return type("Usage", (), {"free": 2 * 2 * 3 * SIZE * SIZE * 4 * 2 + 1})  # two batches of two processes

    monkeypatch.setattr("shutil.disk_usage", usage)
    with caplog.at_level("INFO"):
        assert image_batches(images, 2, 8).num_workers == 2
    assert "2 of 3 processes read pictures" in caplog.text
