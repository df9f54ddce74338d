"""Image towers that learn classes: the data, the loss, the model, and its checkpoint as a file for --image-weights."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fairseq.tasks import TASK_REGISTRY
from PIL import Image

import mlvl_fairseq
from mlvl_fairseq.checkpoints.archive import save_checkpoint
from mlvl_fairseq.checkpoints.towers.base import load_tower
from mlvl_fairseq.criterions.image_classification import ImageClassificationConfig, ImageClassificationCriterion
from mlvl_fairseq.data.classification import DATA_SETS
from mlvl_fairseq.data.classification.batches import LabelledDataset, readable
from mlvl_fairseq.data.images.augmentation import Augmentation
from mlvl_fairseq.data.images.policy import BadImagePolicy
from mlvl_fairseq.data.images.transforms import ImageTransform
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.models.image_classifier import ImageClassifierConfig, ImageClassifierModel
from mlvl_fairseq.modules.towers.vit import ViTConfig

SIZE = 16
TOWER = {"image_tower": "vit_tiny", "image_size": SIZE, "image_patch_size": 8, "image_width": 12, "image_layers": 1}
TRANSFORM = ImageTransform("imagenet_square", SIZE)
mlvl_fairseq.register()


@pytest.fixture
def classes(tmp_path):
    """Red and blue pictures, six to train on and four to validate on."""
    rng = random.Random(0)
    for split, number in (("train", 3), ("valid", 2)):
        for name, colour in (("blue", (20, 20, 200)), ("red", (200, 20, 20))):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for index in range(number):
                shade = tuple(value + rng.randint(0, 40) for value in colour)
                picture = Image.new("RGB", (SIZE, SIZE), shade)
                picture.putpixel((index, index), (0, 0, 0))
                picture.save(folder / f"{index}.png")
    return tmp_path


def labelled(folder):
    return DATA_SETS["folder"]().read(str(folder), "train")


def build(classes=2, **options):
    task = SimpleNamespace(classes=[str(number) for number in range(classes)], data_set="folder")
    return ImageClassifierModel.build_model(ImageClassifierConfig(**{**TOWER, **options}), task)


# ---- data ----------------------------------------------------------------------------------------------------------


def test_a_batch_has_pixels_and_classes(classes):
    dataset = LabelledDataset(labelled(classes / "train"), TRANSFORM)
    batch = dataset.collater([dataset[index] for index in (0, 4, 2)])
    assert batch["labels"].tolist() == [0, 1, 0] and batch["id"].tolist() == [0, 4, 2] and batch["nsentences"] == 3
    with Image.open(classes / "train" / "red" / "1.png") as picture:
        assert torch.equal(batch["net_input"]["images"][1], TRANSFORM(picture))
    assert dataset.ordered_indices().tolist() == list(range(6)) and dataset.collater([]) == {}


def test_pictures_are_drawn_anew_in_every_epoch_and_alike_after_a_restart(classes):
    def pixels(epoch, seed=1):
        dataset = LabelledDataset(labelled(classes / "train"), TRANSFORM, Augmentation(), seed, shuffle=True)
        dataset.set_epoch(epoch)
        return torch.stack([dataset[index]["pixels"] for index in range(6)])

    assert torch.equal(pixels(1), pixels(1))
    assert not torch.equal(pixels(1), pixels(2)) and not torch.equal(pixels(1), pixels(1, seed=2))


def test_pictures_that_cannot_be_read(classes):
    (classes / "train" / "red" / "1.png").write_bytes(b"no picture")
    images = labelled(classes / "train")
    left = readable(images, TRANSFORM, BadImagePolicy("skip", 5), "train pictures")
    assert len(left) == 5 and "red/1.png" not in left.images and left.keys == images.keys
    assert readable(images, TRANSFORM, BadImagePolicy(), "train pictures") is images
    with pytest.raises(DataError, match=r"red/1.png: .*\(--bad-image skip looks"):
        LabelledDataset(images, TRANSFORM)[4]


# ---- loss ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_with_smoothed_targets(smoothing):
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, 1.0], [1.0, 1.5, -2.0]])
    labels = np.array([0, 2, 1])
    task = SimpleNamespace(classes=["a", "b", "c"])
    criterion = ImageClassificationCriterion(ImageClassificationConfig(label_smoothing=smoothing), task)
    sample = {"net_input": {}, "labels": torch.from_numpy(labels), "nsentences": 3, "ntokens": 3}
    loss, size, log = criterion(lambda: {"logits": logits}, sample)
    scores = logits.double().numpy()
    log_p = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    expected = -((1 - smoothing) * log_p[np.arange(3), labels] + smoothing * log_p.mean(1)).sum()
    assert loss.item() == pytest.approx(expected, rel=1e-6) and size == 3
    assert log["accuracy"].item() == pytest.approx(200.0)
    without_one = {**sample, "counts": torch.tensor([True, False, False])}
    assert criterion(lambda: {"logits": logits}, without_one)[2]["accuracy"].item() == 100.0


def test_no_share_of_a_target():
    with pytest.raises(UserError, match="--label-smoothing 1.5 is not a number of at least 0 and at most 1"):
        ImageClassificationCriterion(ImageClassificationConfig(label_smoothing=1.5), SimpleNamespace(classes=["a"]))


# ---- model ---------------------------------------------------------------------------------------------------------


def test_a_checkpoint_is_a_file_that_the_tower_starts_from(tmp_path):
    torch.manual_seed(0)
    model = build()
    assert {"cls_token", "blocks.0.attn.qkv.weight", "head.weight"} < set(model.state_dict())
    save_checkpoint({"cfg": {"model": {"_name": "image_classifier"}}, "model": model.state_dict()}, tmp_path / "c.pt")
    config = ViTConfig(image_size=SIZE, patch_size=8, width=12, layers=1, heads=3)
    tower = config.build()
    load_tower(tower, config, tmp_path / "c.pt")
    images = torch.randn(2, 3, SIZE, SIZE)
    with torch.no_grad():
        assert torch.equal(tower(images).vector, model.tower(images).vector)
    again = build(image_weights=str(tmp_path / "c.pt"))
    assert torch.equal(again.tower.pos_embed, model.tower.pos_embed)
    other = build()
    other.load_state_dict(model.state_dict(), strict=True)
    with torch.no_grad():
        assert torch.equal(other(images)["logits"], model(images)["logits"])


@pytest.mark.parametrize(
    "options, message",
    [
        ({"image_tower": "features", "image_feature_dim": 4}, "a FeaturesTower has no pictures to classify"),
        ({"image_tower": "clip_vit_b32", "image_size": 32}, "no classifier of its kind is read as a tower again"),
        ({"image_tower": "vit_huge"}, "--image-tower vit_huge: there are"),
    ],
)
def test_towers_that_cannot_be_trained_so(options, message):
    own = {name: None for name in TOWER}
    with pytest.raises(UserError, match=message):
        build(**{**own, **options})


# ---- training ------------------------------------------------------------------------------------------------------


def train(run_here, user_dir, classes, *more):
    sizes = [f"--{name.replace('_', '-')}={value}" for name, value in TOWER.items()]
    run_here(
        "fairseq-train", classes, "--user-dir", user_dir, "--task", "image_classification", "--arch",
        "image_classifier", *sizes, "--criterion", "image_classification", "--optimizer", "grouped_adamw", "--lr",
        "0.01", "--batch-size", "4", "--max-epoch", "12", "--cpu", "--num-workers", "0", "--no-epoch-checkpoints",
        "--best-checkpoint-metric", "accuracy", "--maximize-best-checkpoint-metric", "--save-dir", classes / "out",
        "--no-progress-bar", *more,
    )  # fmt: skip


def test_colours_are_learned(run_here, user_dir, classes):
    train(run_here, user_dir, classes)
    state = torch.load(classes / "out" / "checkpoint_best.pt", weights_only=True)
    assert state["extra_state"]["best"] == 100.0 and state["task_state"]["classes"] == ["blue", "red"]


def test_what_is_wrong_with_the_data_is_one_line(classes):
    task = TASK_REGISTRY["image_classification"]

    def cfg(**options):
        known = {"data": str(classes), "data_set": "folder", "augment": False, "crop_scale": "0.2,1.0", "flip": 0.5}
        more = {"rand_augment": "fixed", "bad_image": "error", "max_bad_images": 1, "high_bit_depth": "clip", "seed": 1}
        return SimpleNamespace(**{**known, **more, **options})

    (classes / "valid" / "green").mkdir()
    Image.new("RGB", (4, 4)).save(classes / "valid" / "green" / "0.png")
    setup = task.setup_task(cfg())
    setup.preprocess = TRANSFORM
    with pytest.raises(DataError, match=r"valid: has other classes than those of training, such as \['green'\]"):
        setup.load_dataset("valid")
    with pytest.raises(UserError, match="--data-set folders: choose one of .*folder"):
        task.setup_task(cfg(data_set="folders"))
    with pytest.raises(DataError, match="train: no such folder; it holds a folder for each class"):
        task.setup_task(cfg(data=str(classes / "valid")))
