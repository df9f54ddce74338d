"""`load_model`: what it encodes, compares, ranks and classifies, against independent computations."""

import copy
import subprocess
import sys
import tracemalloc
from types import SimpleNamespace

import clip
import numpy as np
import pytest
import torch
from fusion_of_letters import fusion_of_letters
from PIL import Image

import mlvl_fairseq
from mlvl_fairseq import DataError, UserError, load_model
from mlvl_fairseq.api import Model
from mlvl_fairseq.data.text import ClipTokenizer, clip_vocabulary
from mlvl_fairseq.evaluation.metrics import nearest as blocks
from mlvl_fairseq.evaluation.metrics.nearest import nearest
from mlvl_fairseq.inference.encoder import Encoder
from mlvl_fairseq.modules.adapters import TowerShape, build_adapter
from mlvl_fairseq.modules.towers.clip_text import CLIPTextTower
from mlvl_fairseq.networks.clip import ClipNetwork

TEXTS = ["a red ball", "two dogs in the snow", "a street", "ein Hund"]
CUTS = {"en": (49408, 48894), "de": (49408, 80)}  # of two languages: tokens and merges


@pytest.fixture(scope="module")
def model(small_clip):
    return load_model(small_clip)


@pytest.fixture(scope="module")
def files(photos):
    return [photos / name for name in ("ball.png", "dogs.jpg", "street.jpg")]


@pytest.fixture(scope="module")
def official(small_clip):
    """OpenAI's own model and tokens of the same file."""
    state = torch.load(small_clip, weights_only=True)
    state.pop("context_length")
    network = clip.model.CLIP(512, 32, 1, 64, 8, 77, 49408, 64, 1, 1).float().eval()
    network.load_state_dict(state)
    return network


def unit(rows):
    rows = np.asarray(rows, np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_vectors_are_those_of_the_official_code(model, official, files):
    with torch.no_grad():
        texts = official.encode_text(clip.tokenize(TEXTS)).numpy()
        pixels = torch.stack([model.encoder.preprocess(Image.open(path)) for path in files])
        images = official.encode_image(pixels).numpy()
    np.testing.assert_allclose(model.encode_text(TEXTS, normalise=False), texts, atol=1e-5)
    np.testing.assert_allclose(model.encode_text(TEXTS, batch_size=1), unit(texts), atol=1e-6)
    np.testing.assert_allclose(model.encode_image(files, batch_size=2), unit(images), atol=1e-6)
    np.testing.assert_allclose(model.encode_image(files, normalise=False), images, atol=1e-5)
    np.testing.assert_allclose(model.similarity(TEXTS, files), unit(texts) @ unit(images).T, atol=1e-6)
    shown = model.classify(files, ["dog", "ball"], ["a {}"])
    with torch.no_grad():
        classes = unit(official.encode_text(clip.tokenize(["a dog", "a ball"])).numpy())
    logits = torch.from_numpy(unit(images) @ classes.T) * official.logit_scale.exp().item()
    np.testing.assert_allclose(shown.probabilities, logits.softmax(1), atol=1e-5)
    assert shown.labels == [("dog", "ball")[row] for row in logits.argmax(1)]


def test_pictures_of_every_kind_are_one_picture(model, files):
    image = Image.open(files[0]).convert("RGB")
    pixels = np.asarray(image)
    vectors = model.encode_image(
        [str(files[0]), files[0], image, pixels, np.dstack([pixels, pixels[..., :1] * 0 + 255])]
    )
    np.testing.assert_allclose(vectors[1:], np.repeat(vectors[:1], 4, 0), atol=1e-6)
    np.testing.assert_allclose(model.encode_image(pixels[None]), vectors[:1], atol=1e-6)
    grey = np.asarray(image.convert("L"))
    np.testing.assert_allclose(*model.encode_image([grey, Image.fromarray(grey)]), atol=1e-6)


def test_pictures_of_sixteen_bits(model):
    wide = Image.fromarray(np.arange(40 * 40, dtype=np.uint16).reshape(40, 40) * 40)
    scaled = Image.fromarray(np.rint(np.arange(40 * 40).reshape(40, 40) * (255 / 1599)).astype(np.uint8))
    np.testing.assert_allclose(*model.encode_image([wide, scaled], high_bit_depth="scale"), atol=1e-6)
    assert not np.allclose(*model.encode_image([wide, scaled]), atol=1e-3)


@pytest.mark.parametrize(
    "picture, message",
    [
        ("none.jpg", "none.jpg: no such image"),
        (np.zeros((4, 4, 3)), r"picture 0: is an array, float64 of shape \[4, 4, 3\]: give uint8"),
        (np.zeros((3, 4, 5), np.uint8), r"picture 0: is an array, uint8 of shape \[3, 4, 5\]"),
        (7, "picture 0: is a int: give a path"),
        (Image.new("RGB", (1, 400)), "picture 0: 1 x 400 pixels"),
    ],
)
def test_a_picture_that_cannot_be_used(model, files, picture, message, caplog):
    with pytest.raises(DataError, match=f"^{message}"):
        model.encode_image([picture])
    vectors = model.encode_image([picture, files[0]], bad_image="skip")
    assert not vectors[0].any() and np.linalg.norm(vectors[1]) == pytest.approx(1)
    assert "bad image 1 (100 are allowed)" in caplog.text
    with pytest.raises(DataError, match="--max-bad-images allows 1"):
        model.encode_image([picture, picture], bad_image="skip", max_bad_images=1)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda model: model.encode_text("one"), "give a list of texts, not one"),
        (lambda model: model.encode_text(["one", 2]), "text 1 is a int, not a text"),
        (lambda model: model.encode_image("one.jpg"), "give a list of pictures, not a str"),
        (lambda model: model.encode_image(np.zeros((4, 4, 3), np.uint8)), "give a list of pictures, not a ndarray"),
        (lambda model: model.rank(np.zeros((1, 3)), ["x.jpg"]), "ViT-B-32.pt has 512 dimensions, these vectors 3"),
        (lambda model: model.rank(["x"], np.ones((2, 512)), k=0), "k must be at least 1, not 0"),
        (lambda model: model.match(["x"], ["x.jpg"]), "has no fusion encoder"),
        (lambda model: model.rank(["x"], ["x.jpg"], rerank=128), "has no fusion encoder"),
        (lambda model: model.rank(["x"], ["x.jpg"], k=10, rerank=5), "rerank=5 puts 5 images in order"),
        (lambda model: model.classify("x.jpg", []), "give a list of labels"),
        (lambda model: model.classify("x.jpg", "dog"), "give a list of labels"),
        (lambda model: model.classify("x.jpg", ["dog"], ["a dog"]), "has no place for the class"),
        (lambda model: load_model("none.pt"), "none.pt: no such file or folder"),
        (lambda model: load_model(model.encoder.source, dtype="float64"), "dtype float64: choose one of float32"),
        (lambda model: load_model(model.encoder.source, device="cuda:99"), "--device cuda:99"),
    ],
)
def test_errors_are_one_line(model, call, message):
    with pytest.raises(UserError, match=message) as error:
        call(model)
    assert "\n" not in str(error.value)


def test_ranking_by_the_definition(model, files):
    scores = model.similarity(TEXTS, files)
    found = model.rank(TEXTS, files, k=2)
    np.testing.assert_array_equal(found.indices, np.argsort(-scores, axis=1)[:, :2])
    np.testing.assert_allclose(found.scores, -np.sort(-scores, axis=1)[:, :2], atol=1e-6)
    assert model.rank(TEXTS, files).indices.shape == (4, 3), "fewer images than k"
    images = model.encode_image(files)
    for given in (images, torch.from_numpy(images), 3 * images):  # vectors need not be of length 1
        again = model.rank(model.encode_text(TEXTS), given, k=2)
        np.testing.assert_array_equal(again.indices, found.indices)
        np.testing.assert_allclose(again.scores, found.scores, atol=1e-6)


def test_a_stored_collection_is_not_copied(model, tmp_path, monkeypatch):
    np.save(tmp_path / "stored.npy", np.random.default_rng(0).normal(size=(8000, 512)).astype(np.float32))  # 16 MB
    stored = np.load(tmp_path / "stored.npy", mmap_mode="r")
    monkeypatch.setattr(blocks, "CANDIDATES", 100)
    tracemalloc.start()
    found = model.rank(stored[7000:7003], stored, k=2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4e6 and found.indices[:, 0].tolist() == [7000, 7001, 7002]
    np.testing.assert_allclose(found.scores[:, 0], 1, atol=1e-6)


def test_blocks_and_ties_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    candidates = rng.integers(-2, 3, (97, 3)).astype(np.float32)  # many equal rows, and equal scores of others
    queries = rng.integers(-2, 3, (11, 3)).astype(np.float32)
    scores = queries.astype(np.float64) @ candidates.T
    expected = np.argsort(-scores, axis=1, kind="stable")
    for sizes in ((128, 8192), (3, 10), (1, 1), (4, 96)):
        monkeypatch.setattr(blocks, "QUERIES", sizes[0])
        monkeypatch.setattr(blocks, "CANDIDATES", sizes[1])
        for k in (1, 7, 97, 200):
            found = nearest(queries, candidates, k, normalise=False)
            np.testing.assert_array_equal(found.indices, expected[:, :k])
            np.testing.assert_array_equal(found.scores, np.take_along_axis(scores, expected[:, :k], 1))


@pytest.mark.parametrize("dtype, bound", [("bfloat16", 0.02), (torch.float16, 0.005)])
def test_half_precision(model, small_clip, files, dtype, bound):
    """The bounds are those of docs/python.md."""
    half = load_model(small_clip, dtype=dtype)
    assert {parameter.dtype for parameter in half.encoder.network.parameters()} == {half.encoder.dtype}
    for name, given in (("encode_text", TEXTS), ("encode_image", files)):
        full, own = getattr(model, name)(given), getattr(half, name)(given)
        assert own.dtype == np.float32 and 0 < np.abs(own - full).max() < bound
    assert half.fingerprint == model.fingerprint


def in_languages(adapter=None, segmentation=None):
    """A model with parts of two languages, in memory."""
    torch.manual_seed(0)
    text = CLIPTextTower(49408, 16, 1, 2, 8, 20)
    part = adapter and build_adapter(adapter, SimpleNamespace(), TowerShape.of(text), ["en", "de"])
    for parameter in part.parameters() if part else ():
        parameter.data.add_(0.5 * torch.randn_like(parameter))
    tokenizer = ClipTokenizer(clip_vocabulary(), segmentation)
    return Model(Encoder(ClipNetwork(text, None, part).eval(), tokenizer, "sha", ["en", "de"], "model.pt"))


@pytest.mark.parametrize("parts", [{"adapter": "bottleneck"}, {"segmentation": CUTS}])
def test_models_that_treat_languages_by_themselves(parts):
    model = in_languages(**parts)
    assert model.languages == ["en", "de"] and repr(model) == "<Model clip, 8 dimensions, languages en de: model.pt>"
    with pytest.raises(UserError, match="model.pt needs lang=, .*; there are: en, de"):
        model.encode_text(["Hund"])
    for call in (
        model.encode_text,
        lambda texts, lang: model.rank(texts, np.ones((1, 8)), 1, lang),
        lambda texts, lang: model.classify(np.ones((1, 8)), texts, lang=lang),
    ):
        with pytest.raises(UserError, match="model.pt does not know language 'fr'; there are: en, de"):
            call(["Hund"], "fr")
    assert not np.allclose(model.encode_text(["Hunde"], "de"), model.encode_text(["Hunde"], "en"), atol=1e-3)


@pytest.mark.parametrize("adapter", [None, "dual_prompt"])
def test_models_that_treat_all_languages_alike(adapter):
    model = in_languages(adapter, None)
    np.testing.assert_array_equal(model.encode_text(["Hund"]), model.encode_text(["Hund"], "fr"))


OF_MODEL = "model.pt: language '{}' was not learned by this model (learned: en, de); it is encoded"


@pytest.mark.parametrize("parts, message", [
    ({}, f"{OF_MODEL} as any other text"),
    ({"segmentation": CUTS},
     f"{OF_MODEL} with the whole vocabulary"),
    ({"adapter": "bottleneck"},
     "language '{}' was not learned: captions are encoded without adapter; there are adapters for en, de"),
])  # fmt: skip
def test_a_language_that_was_not_learned_is_told_once(parts, message, caplog):
    encoder = in_languages(**parts).encoder
    for lang in ("fr", "en", "fr", "xx", "de"):
        encoder.encode_texts(["Hund"], lang)
    assert caplog.messages == [message.format("fr"), message.format("xx")]


def test_nothing_is_told_where_no_language_was_learned_in_sequence(model, caplog):
    model.encode_text(["Hund"], "xx")
    assert not caplog.records


@pytest.fixture(scope="module")
def fusion():
    return fusion_of_letters()


def test_a_fusion_encoder_matches_and_puts_in_order(fusion, files):
    texts, network, files = ["ab", "cde", "ba"], fusion.encoder.network, files[::-1]
    scores = np.empty((3, 3))
    with torch.no_grad():
        for row, text in enumerate(fusion.encoder.tokenizer.tokenize(texts, 20)):
            for column, path in enumerate(files):
                image = network.encode_image(fusion.encoder.preprocess(Image.open(path))[None])
                scores[row, column] = network.match(
                    image, network.encode_text(torch.tensor([text]), torch.tensor([len(text) - 1]))
                )
    np.testing.assert_allclose(fusion.match(texts, files), scores, atol=1e-5)
    cosines = fusion.similarity(texts, files)
    for k, rerank in ((1, 2), (2, 2), (2, 3)):
        found = fusion.rank(texts, files, k, rerank=rerank)
        for row in range(3):
            few = np.argsort(-cosines[row])[:rerank]
            expected = few[np.argsort(-scores[row, few])][:k]
            np.testing.assert_array_equal(found.indices[row], expected)
            np.testing.assert_allclose(found.scores[row], scores[row, expected], atol=1e-5)
    assert (np.argsort(-scores, axis=1) != [0, 1, 2]).any(axis=1).all(), "no order that the images have anyway"
    half = copy.deepcopy(fusion)
    half.encoder.network.to(torch.bfloat16)
    half.encoder.dtype = torch.bfloat16
    assert 0 < np.abs(half.match(texts, files) - scores).max() < 0.1 * np.abs(scores).max()
    with pytest.raises(UserError, match="reads texts and looks at pictures"):
        fusion.match(fusion.encode_text(texts), files)
    half.encoder.tokenizer.own_languages = ["en"]
    with pytest.raises(UserError, match="does not know language 'de'; there are: en"):
        half.match(texts, files, "de")


def test_nothing_heavy_is_imported_before_it_is_needed(root):
    script = (
        "import sys, mlvl_fairseq; "
        "assert {'load_model', 'list_models'} <= set(dir(mlvl_fairseq)); "
        "print([name for name in ('torch', 'fairseq', 'PIL', 'mlvl_fairseq.api') if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"
    with pytest.raises(AttributeError, match="has no attribute 'load_modle'"):
        mlvl_fairseq.load_modle


def test_architectures_are_listed():
    found = mlvl_fairseq.list_models()
    assert found["clip_vit_b16"] == "clip with patch_size 16" and found["clip"].startswith("CLIP (Radford et al. 2021)")
