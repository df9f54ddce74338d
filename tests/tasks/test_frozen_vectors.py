"""``--cache-frozen``: vectors of frozen towers are read, and training is what it is without; old ones are not used."""

import io
import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from mlvl_fairseq.criterions.clip_contrastive import ClipContrastiveConfig, ClipContrastiveCriterion
from mlvl_fairseq.data import feature_extraction
from mlvl_fairseq.data.captions import CaptionTable, Problems
from mlvl_fairseq.data.corpus.build import build_corpus
from mlvl_fairseq.data.corpus.prepare import binarize_all
from mlvl_fairseq.data.text import TextOptions, load_tokenizer
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.models.dual_encoder import DualEncoderConfig
from mlvl_fairseq.networks.frozen_tower import FrozenTower
from mlvl_fairseq.tasks.image_text_retrieval import ImageTextRetrievalConfig, ImageTextRetrievalTask

PICTURES = {"train": 9, "valid": 10}
WORDS = ["a", "red", "ball", "blue", "box", "and", "dog", "green"]
MODEL = {
    **{"image_tower": "vit_tiny", "image_size": 16, "image_patch_size": 8, "image_width": 12, "image_layers": 1},
    **{"text_tower": "bert_tiny", "text_width": 16, "text_max_positions": 20, "text_layers": 1, "embed_dim": 8},
}


def table(split, root):
    """Two captions of different lengths a picture."""
    draw, names = np.random.default_rng(len(split)), [f"{split}{row}.png" for row in range(PICTURES[split])]
    for name in names:
        Image.fromarray(draw.integers(0, 255, (20, 24, 3), dtype=np.uint8)).save(root / name)
    captions = [" ".join(draw.choice(WORDS, length)) for length in draw.integers(1, 8, 2 * len(names))]
    rows = np.repeat(np.arange(len(names), dtype=np.int32), 2)
    return CaptionTable("file", names, rows, captions, None, np.arange(len(rows)) + 1, "line", Problems())


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A corpus and a BERT's tokenizer."""
    folder = tmp_path_factory.mktemp("frozen")
    for name in ("images", "bert"):
        (folder / name).mkdir()
    tables = {split: {"en": table(split, folder / "images")} for split in PICTURES}
    corpus = build_corpus(folder / "corpus", tables, image_root=folder / "images", bpe_size=60)
    (folder / "bert" / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]) + "\n")
    tokenizer = load_tokenizer(folder / "bert")
    for options in (TextOptions(), TextOptions(no_end_token=True)):
        binarize_all(corpus, TextOptions.prepare(options, tokenizer))
    return folder


@pytest.fixture
def folder(place, tmp_path):
    """A copy of the corpus, with no vectors yet."""
    return shutil.copytree(place / "corpus", tmp_path / "corpus")


@pytest.fixture
def build(place, folder):
    """``build(cache, model options, task options)`` -> a task, and its model."""

    def build(cache="auto", model={}, seed=0, **options):
        given = {"cache_frozen": cache, "max_length": 6, "eval_max_length": 7, "seed": 1, "cpu": True, "num_workers": 0}
        given |= {"tokenizer_folder": str(place / "bert"), "data": str(folder), **options}
        task = ImageTextRetrievalTask.setup_task(ImageTextRetrievalConfig(**given))
        torch.manual_seed(seed)
        cfg = OmegaConf.structured(DualEncoderConfig(**{"preset": "proj", **MODEL, **model}))
        cfg._name = "dual_encoder"
        return task, task.build_model(cfg)

    return build


def batch(task, split, rows):
    if split not in task.datasets:
        task.load_dataset(split)
    dataset = task.dataset(split)
    return dataset.collater([dataset[row] for row in rows])


def gradients(task, model, split="train", rows=(3, 0, 7, 8, 5)):
    """The loss of a batch while training, and the gradients of what trains."""
    criterion = ClipContrastiveCriterion(ClipContrastiveConfig(), task).train()
    model.train().zero_grad()
    loss, _, _ = criterion(model, batch(task, split, rows))
    loss.backward()
    trained = {name: value.grad for name, value in model.named_parameters() if value.requires_grad}
    return loss.detach(), trained


def files(folder, what="vectors"):
    return sorted(path.name for path in (folder / "features").glob(f"*{what}*.npy"))


@pytest.mark.parametrize("preset, towers, unended", [
    ("proj", {"visual_encoder", "text_encoder"}, False),
    ("proj", {"visual_encoder", "text_encoder"}, True),
    ("lit", {"visual_encoder"}, False),
    ("lwa_image", {"text_encoder"}, False),
])  # fmt: skip
def test_losses_and_gradients_are_those_of_towers_that_run(build, folder, monkeypatch, preset, towers, unended):
    """Text dropout is on where the text tower trains; the same is drawn, as nothing else draws."""
    options = {"model": {"preset": preset}, "no_end_token": unended}
    without, with_vectors = build("off", **options), build("require", **options)
    assert not files(folder)
    for split in ("train", "valid"):
        batch(*with_vectors[:1], split, [0])
    for name in towers:
        tower = with_vectors[1].get_submodule(name)
        monkeypatch.setattr(tower, "forward", lambda *_: pytest.fail("a frozen tower runs"))
    for split in ("train", "valid"):
        torch.manual_seed(1)
        loss, expected = gradients(*without, split)
        torch.manual_seed(1)
        found, same = gradients(*with_vectors, split)
        torch.testing.assert_close(found, loss, rtol=1e-6, atol=1e-6)
        assert same.keys() == expected.keys() and len(same) >= 5
        torch.testing.assert_close(same, expected, rtol=1e-5, atol=1e-6)
    assert len(files(folder)) == 2 * len(towers)
    assert with_vectors[1].state_dict().keys() == without[1].state_dict().keys()


def test_vectors_are_computed_once(build, folder, monkeypatch, caplog):
    with caplog.at_level("INFO", "mlvl_fairseq"):
        first = gradients(*build())
    told = [message for message in caplog.messages if "are read instead of" in message]
    assert len(told) == 2 and "train: vectors of the frozen image tower in " in told[0]
    assert "(9 x 12 numbers, 0.0 MiB), computed in " in told[0]
    before = {name: (folder / "features" / name).stat().st_mtime_ns for name in files(folder)}
    for name in ("of_images", "of_captions"):
        monkeypatch.setattr(FrozenTower, name, lambda *_: pytest.fail("computed again"))
    again = gradients(*build("require"))
    assert torch.equal(first[0], again[0])
    assert before == {name: (folder / "features" / name).stat().st_mtime_ns for name in files(folder)}


@pytest.mark.parametrize("image, text, options", [
    (1, 1, {"seed": 5}),
    (1, 0, {"model": {"transform": "lilt"}}),
    (1, 0, {"high_bit_depth": "scale"}),
    (1, 0, {"model": {"image_heads": 2}}),  # which no tensor shows
    (0, 1, {"model": {"text_heads": 4}}),
    (0, 1, {"max_length": 5}),
    (0, 1, {"no_end_token": True}),
    (0, 0, {"eval_max_length": 6}),  # of the other split
    (0, 0, {"model": {"embed_dim": 4}}),
])  # fmt: skip
def test_vectors_of_something_else_are_not_used(build, folder, image, text, options):
    gradients(*build())
    task, model = build(**options)
    without, own = gradients(*build("off", **options))
    loss, found = gradients(task, model)
    torch.testing.assert_close(loss, without, rtol=1e-6, atol=1e-6)
    assert len(files(folder, "image-vectors")) == 1 + image and len(files(folder, "en.vectors")) == 1 + text


def test_an_interrupted_computation_goes_on_where_it_was(build, folder, monkeypatch):
    task, _ = build()
    task.load_dataset("train")
    whole = {name: (folder / "features" / name).read_bytes() for name in files(folder, "image-vectors")}
    for path in (folder / "features").glob("*vectors*"):
        path.unlink()
    sizes, encode, size = [], FrozenTower.of_images, feature_extraction.extract_image_features.__defaults__
    fewer = tuple(4 if default == 64 else default for default in size)
    monkeypatch.setattr(feature_extraction.extract_image_features, "__defaults__", fewer)

    def once(self, pixels):
        if len(sizes) == 1:
            sizes.append(0)
            raise KeyboardInterrupt
        sizes.append(len(pixels))
        return encode(self, pixels)

    monkeypatch.setattr(FrozenTower, "of_images", once)
    with pytest.raises(KeyboardInterrupt):
        build()[0].load_dataset("train")
    task, model = build()
    task.load_dataset("train")
    assert sizes == [4, 0, 4, 1]
    for name, content in whole.items():
        assert np.allclose(np.load(folder / "features" / name), np.load(io.BytesIO(content)), atol=1e-6)
    assert not list((folder / "features").glob(".*lock"))


def test_a_checkpoint_with_other_frozen_weights(build):
    """As with --restore-file: validation data are there already."""
    task, model = build("require")
    batch(task, "valid", [0])
    other = build("off", seed=7)[1]
    model.load_state_dict(other.state_dict())
    assert torch.equal(gradients(task, model, "valid")[0], gradients(*build("require", seed=7), "valid")[0])
    loaded = task.datasets["valid"]
    model.load_state_dict(other.state_dict())
    assert task.datasets["valid"] is loaded


def test_damaged_vectors_are_refused(build, folder):
    gradients(*build())
    path = folder / "features" / files(folder, "image-vectors")[0]
    content = bytearray(path.read_bytes())
    content[-3] ^= 4
    path.write_bytes(content)
    with pytest.raises(DataError, match="is damaged: some of its rows 1 to 9 are not what was written; delete it"):
        gradients(*build())


def test_pictures_that_cannot_be_read_leave_with_their_captions(build, place, folder, tmp_path):
    images = shutil.copytree(place / "images", tmp_path / "images")
    (images / "train4.png").write_bytes(b"")
    options = {"image_root": str(images)}
    with pytest.raises(DataError, match="train4.png.* goes on without such images"):
        build(**options)[0].load_dataset("train")
    rows = [0, 9, 15, 4]
    without = gradients(*build("off", bad_image="skip", **options), rows=rows)
    for _ in range(2):  # computed, and read
        task, model = build("require", bad_image="skip", **options)
        loss, _ = gradients(task, model, rows=rows)
        assert len(task.dataset("train")) == 16 and task.usable_images("train") == 8
        torch.testing.assert_close(loss, without[0], rtol=1e-6, atol=1e-6)
    with pytest.raises(DataError, match="1 pictures could not be read, the first is 'train4.png'"):
        build(**options)[0].load_dataset("train")


@pytest.mark.parametrize("options, message", [
    ({"model": {"preset": "full"}}, "something trains in each tower whose vectors this model takes"),
    ({"model": {"preset": "ln"}}, "something trains in each tower"),
    ({"model": {"preset": "da"}}, "something trains in each tower"),
    ({"model": {"frozen_dropout": True}}, "dropout works in the frozen text tower"),
    ({"augment": True}, "--augment shows other pictures each time"),
])  # fmt: skip
def test_what_cannot_be_kept_is_told_where_it_is_required(build, folder, options, message):
    with pytest.raises(UserError, match=f"^--cache-frozen require: {message}"):
        build("require", **options)[0].load_dataset("train")
    loss, _ = gradients(*build(**options))
    torch.testing.assert_close(loss, gradients(*build("off", **options))[0], rtol=1e-6, atol=1e-6)
    assert len(files(folder)) == ("dropout" in message or "augment" in message)  # of the other tower


def test_no_such_choice(build):
    with pytest.raises(UserError, match="--cache-frozen on: choose one of auto, off, require"):
        build("on")


@pytest.mark.parametrize("why", ["room", "read-only"])
def test_a_folder_where_nothing_can_be_kept(build, folder, monkeypatch, caplog, why):
    if why == "room":
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=9 * 12 * 4 - 1))
        message = "/features: train vectors of a frozen tower need at least 0 MiB, 0 MiB are free: make room"
    else:
        monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith("features"))
        message = "/features is read-only, the train vectors cannot be kept there"
    with pytest.raises(UserError, match=message):
        build("require")[0].load_dataset("train")
    with caplog.at_level("INFO", "mlvl_fairseq"):
        task, model = build()
        task.load_dataset("train")
    assert sum(message in line for line in caplog.messages) == 2 and not files(folder)
    monkeypatch.undo()
    assert torch.equal(gradients(task, model)[0], gradients(*build("off"))[0])


def test_a_limit_takes_vectors_that_are_there_and_makes_none(build, folder):
    loss, _ = gradients(*build(limit_samples=9))
    assert not files(folder)
    gradients(*build())
    task, model = build(limit_samples=9)
    torch.testing.assert_close(gradients(task, model)[0], loss, rtol=1e-6, atol=1e-6)
    assert isinstance(task.dataset("train").images, np.ndarray) and len(task.dataset("train")) == 9
