"""TriKD by its commands: captions in pieces, projectors on a frozen text encoder and a frozen CLIP, evaluation."""

import contextlib
import json
import logging
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from mlvl_fairseq.checkpoints.comparison import differing, largest_difference, tensors
from mlvl_fairseq.data.captions import read_captions
from mlvl_fairseq.data.corpus import Corpus
from mlvl_fairseq.data.images.corpus_images import CorpusImages, CroppedCorpusImages
from mlvl_fairseq.data.images.transforms import ImageTransform
from mlvl_fairseq.inference.encoder import Encoder
from mlvl_fairseq.modules.towers.efficientnet_lite import EfficientNetLiteConfig


class Validations(logging.Handler):
    """What fairseq logs of every validation."""

    def __init__(self):
        super().__init__()
        self.values = []

    def emit(self, record):
        if record.name == "valid":  # fairseq renames its logger for the moment
            self.values.append(json.loads(record.getMessage()))

    @contextlib.contextmanager
    def listening(self):
        logger = logging.getLogger("fairseq.logging.progress_bar")
        logger.addHandler(self)
        logger.setLevel(logging.INFO)
        yield
        logger.removeHandler(self)


@dataclass
class Run:
    folder: Path
    validations: list

    @property
    def last(self):
        return self.folder / "checkpoint_last.pt"


@pytest.fixture(scope="module")
def trained(trikd_options, succeed, tmp_path_factory):
    """``trained(*options)``: what a training left; the same one is done once."""
    done = {}

    def train(*more):
        if more not in done:
            folder, heard = tmp_path_factory.mktemp("run"), Validations()
            with heard.listening():
                succeed("fairseq-train", *trikd_options, *more, "--save-dir", folder)
            done[more] = Run(folder, heard.values)
        return done[more]

    return train


TWO_LANGUAGES = ("--lang-pairs", "im-en,im-de", "--valid-langs", "en,de,ru", "--max-epoch", 2)


def test_only_projectors_temperature_and_fingerprints_are_saved(trained):
    run = trained(*TWO_LANGUAGES)
    saved = {place.split(".")[1] for place in tensors(run.last, ("model",))}
    assert saved == {"x_projector", "c_projector", "logit_scale", "mte_fingerprint", "clip_fingerprint"}
    assert tensors(run.last, ("model",))["model.logit_scale"] != pytest.approx(np.log(1 / 0.07), abs=1e-4)


def test_recalls_of_every_language_and_their_average(trained):
    run = trained(*TWO_LANGUAGES)
    assert len(run.validations) == 2
    for values in run.validations:
        means = [float(values[f"valid_r_mean_{lang}"]) for lang in ("en", "de", "ru")]
        assert float(values["valid_r_mean"]) == pytest.approx(np.mean(means), abs=2e-3) and len(set(means)) > 1
        assert {"valid_itc", "valid_ttc", "valid_txt_r1", "valid_img_r10"} <= values.keys()


def test_evaluation_gives_the_recalls_of_validation(trained, succeed, world, teacher, read_json, tmp_path):
    """On pictures, through CLIP's image tower; validation had stored features."""
    run = trained(*TWO_LANGUAGES)
    captions, scores = world / "valid.{lang}.json", tmp_path / "scores.json"
    evaluate = ["mlvl-evaluate", "--checkpoint", run.last, "--captions", captions, "--lang", "en,de,ru"]
    succeed(*evaluate, "--image-root", world / "images", "--clip", teacher, "--json", scores)
    result = read_json(scores)
    for lang, own in result["languages"].items():
        assert own["r_mean"] == pytest.approx(float(run.validations[-1][f"valid_r_mean_{lang}"]), abs=1e-3)
        assert "|tok:spm-" in own["signature"]


@pytest.fixture
def german_scores(trained, trikd_corpus, succeed):
    """``german_scores(*options)``: what mlvl-evaluate prints for a model of two languages on stored features."""
    features, names = trikd_corpus / "features/test.image.npy", trikd_corpus / "images/test.txt"
    images = ["--image-features", features, "--image-list", names]

    def scores(*options):
        checkpoint = trained(*TWO_LANGUAGES).last
        return json.loads(succeed("mlvl-evaluate", "--checkpoint", checkpoint, "--lang", "de", *images, *options))

    return scores


def test_published_layouts_give_the_scores_of_the_same_captions(german_scores, world, tmp_path):
    """Lines of text beside image names (Multi30k, XTD10), MS-COCO's file, and both ways to count recall."""
    table = read_captions(world / "test.de.json")
    (tmp_path / "test.de").write_text("".join(f"{caption}\n" for caption in table.captions))
    (tmp_path / "images").write_text("".join(f"{table.images[row]}\n" for row in table.image_rows))
    images = [{"id": number, "file_name": name} for number, name in enumerate(table.images)]
    captions = [{"image_id": int(row), "caption": text} for row, text in zip(table.image_rows, table.captions)]
    (tmp_path / "coco.json").write_text(json.dumps({"images": images, "annotations": captions}))

    expected = german_scores("--captions", world / "test.de.json")
    assert german_scores("--captions", tmp_path / "test.de", "--caption-images", tmp_path / "images") == expected
    assert german_scores("--captions", tmp_path / "coco.json") == expected
    lenient = german_scores("--captions", world / "test.de.json", "--recall", "deduplicated")
    assert "|captions:deduplicated|" in lenient["signature"] and "|captions:any|" in expected["signature"]
    assert lenient["txt_r1"] == expected["txt_r1"] and lenient["r_mean"] >= expected["r_mean"]


def test_stored_states_give_the_same_training(trained):
    """But for float16, in which states are stored."""
    options = ("--langs", "de,ru", "--max-update", 4, "--encode-chunk", 5, "--optimizer", "sgd", "--lr", 0.05)
    online, stored = trained(*options), trained(*options, "--cached-states")
    assert largest_difference(online.last, stored.last) < 2e-3
    for first, second in zip(online.validations, stored.validations, strict=True):
        assert float(first["valid_loss"]) == pytest.approx(float(second["valid_loss"]), rel=1e-3)


SAMPLED = "--langs en,de --sampling-temperature 5 --single-language-batches --max-epoch 2 --batch-size 32".split()


def test_states_of_training_captions_are_stored_for_chosen_languages(run, succeed, trikd_corpus, pieces, new_mte):
    prepare = ["mlvl-prepare", trikd_corpus, "--sentencepiece", pieces, "--mte", new_mte(5)]
    assert "no train captions in language 'xx'" in run(*prepare, "--train-states", "en,xx").error
    before = set((trikd_corpus / "features").glob("*.npy"))
    succeed(*prepare, "--train-states", "en")
    stored = {path.name.partition(".states-")[0] for path in set((trikd_corpus / "features").glob("*.npy")) - before}
    assert stored == {"train.en", *(f"valid.{lang}" for lang in Corpus(trikd_corpus).languages("valid"))}
    assert "--train-states goes with --mte" in run(*prepare[:4], "--train-states", "en").error


@pytest.mark.parametrize("images", ["stored", "cropped"])
def test_resumed_training_ends_as_if_undisturbed(images, trained, trikd_options, succeed, teacher, tmp_path):
    crops = ["--image-tower", "vit", "--clip", teacher, "--random-crop", 0.5] if images == "cropped" else []
    more = [*SAMPLED, *crops, "--save-interval-updates", 3]
    whole = trained(*more)
    for updates in (5, 10**6):
        succeed("fairseq-train", *trikd_options, *more, "--max-update", updates, "--save-dir", tmp_path)
    assert differing(whole.last, tmp_path / "checkpoint_last.pt") == []


def test_crops_are_others_than_the_centre_and_others_in_every_epoch(trikd_corpus):
    crops = CroppedCorpusImages(Corpus(trikd_corpus), "train", ImageTransform("clip", 32), "", 0.3, seed=1)
    centre = CorpusImages(Corpus(trikd_corpus), "train", ImageTransform("clip", 32))
    first = crops[3]
    assert torch.equal(crops[3], first) and not torch.equal(first, centre[3])
    crops.set_epoch(2)
    assert not torch.equal(crops[3], first)


def test_features_of_another_network_without_ttc(trikd_corpus, succeed, trikd_options, world, tmp_path):
    """As timm's Swin in the published code: given features, which have no texts."""
    folder = tmp_path / "corpus"
    shutil.copytree(trikd_corpus, folder)
    given = []
    for split in ("train", "valid", "test"):
        features = np.load(folder / f"features/{split}.image.npy")
        np.save(tmp_path / f"{split}.npy", np.tile(features, 2))
        given.append(f"{split}={tmp_path / split}.npy")
    names = [f"{split}={folder}/images/{split}.txt" for split in ("train", "valid", "test")]
    succeed("mlvl-prepare", folder, "--image-features", *given, "--image-list", *names)
    options = [folder, *trikd_options[1:], "--image-tower", "features", "--loss-type", "nott", "--max-update", 2]
    succeed("fairseq-train", *options, "--save-dir", tmp_path)
    model = tensors(tmp_path / "checkpoint_last.pt", ("model",))
    assert model["model.c_projector.weight"].shape == (32, 64) and "model.clip_fingerprint" not in model
    evaluate = ["mlvl-evaluate", "--checkpoint", tmp_path / "checkpoint_last.pt", "--lang", "ru"]
    images = ["--image-features", tmp_path / "test.npy", "--image-list", folder / "images/test.txt"]
    assert '"r_mean"' in succeed(*evaluate, "--captions", world / "test.ru.json", *images)


def test_pictures_through_the_frozen_tower_train_as_stored_features(trained, teacher):
    options = ("--langs", "en", "--max-update", 3)
    stored, pictures = trained(*options), trained(*options, "--image-tower", "vit", "--clip", teacher)
    assert largest_difference(stored.last, pictures.last) < 1e-4


def test_pictures_cut_as_published(trikd_corpus, succeed, run, trikd_options, world, teacher, read_json, tmp_path):
    """mCLIP's 248 to 224 belongs to features, model and signature: what was cut otherwise is told apart."""
    corpus = shutil.copytree(trikd_corpus, tmp_path / "corpus")
    own = {path.name: np.load(path) for path in corpus.glob("features/*.image.npy")}
    prepare = ["mlvl-prepare", corpus, "--teacher", teacher]
    assert "transform None, now it is mclip@32" in run(*prepare, "--transform", "mclip").error
    for path in corpus.glob("features/*.image.*"):
        path.unlink()
    succeed(*prepare, "--transform", "mclip")
    for name, features in own.items():
        assert np.abs(np.load(corpus / "features" / name) - features).max() > 0.01
    assert "transform mclip@32, now it is None" in run(*prepare).error
    train = ["fairseq-train", corpus, *trikd_options[1:], "--max-update", 1, "--save-dir", tmp_path / "run"]
    refused = run(*train).error
    assert "train.image.npy holds features of pictures cut by mclip: give --transform mclip" in refused
    succeed(*train, "--transform", "mclip", "--clip", teacher)
    evaluate = ["mlvl-evaluate", "--checkpoint", tmp_path / "run/checkpoint_last.pt", "--lang", "de"]
    evaluate += ["--captions", world / "test.de.json", "--json", tmp_path / "scores.json"]
    signatures = []
    for images in (
        ["--image-root", world / "images"],
        ["--image-features", corpus / "features/test.image.npy", "--image-list", corpus / "images/test.txt"],
    ):
        succeed(*evaluate, *images)
        signatures.append(read_json(tmp_path / "scores.json"))
    assert "|transform:mclip@32|" in signatures[0]["signature"] and "transform" not in signatures[1]["signature"]
    assert signatures[0]["r_mean"] == pytest.approx(signatures[1]["r_mean"], abs=1e-6)


def test_fine_tuning_starts_from_projectors(trained):
    run = trained(*TWO_LANGUAGES)
    start = ("--langs", "de", "--init-projectors-from", run.last, "--positives", "sum", "--max-update", 1, "--lr", 1e-9)
    kept, reset = trained(*start), trained(*start, "--reset-temperature")
    for other, temperature in ((kept, None), (reset, np.log(1 / 0.07))):
        before, after = tensors(run.last, ("model",)), tensors(other.last, ("model",))
        if temperature is not None:
            before["model.logit_scale"] = torch.tensor(temperature)
        for place in before:
            torch.testing.assert_close(after[place].float(), before[place].float(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("more, message", [
    (("--image-tower", "vit"), "--image-tower vit needs the frozen CLIP"),
    (("--cached-states", "--frozen-dropout"), "--cached-states are those without dropout"),
    (("--cached-states", "--max-length", 20), "no states of the .* captions in 'en' by this text encoder"),
    (("--reset-temperature",), "--reset-temperature goes with --init-projectors-from"),
    (("--encoder-embed-dim", 64), "has width 32, not 64"),
    (("--loss-type", "noitnott"), "leaves no loss"),
    (("--lang-pairs", "im-en,de"), "--lang-pairs de: write im-LANG"),
    (("--langs", "en,en"), "one or several different languages"),
    (("--langs", "fr"), "no train captions in language 'fr'"),
    (("--image-tower", "features", "--loss-type", "nott"), "has no such features of the train images"),
    (("--mte", "nowhere.pt"), "nowhere.pt: no such file or folder"),
    (("--max-length", 101), "takes 100 tokens, not 101: give a smaller --max-length"),
    (("--random-crop", 2), "--random-crop 2.0 is no share"),
    (("--transform", "mclip"), "holds features of pictures cut by clip: give --transform clip, or a corpus made"),
    (("--sampling-temperature", 0), "--sampling-temperature 0.0 is not positive"),
])  # fmt: skip
def test_what_does_not_fit_is_said_in_a_line(run, trikd_options, tmp_path, more, message):
    assert re.search(message, run("fairseq-train", *trikd_options, *more, "--save-dir", tmp_path).error)


def test_another_frozen_file_is_refused(trained, run, trikd_options, new_mte, world, pieces, teacher, tmp_path):
    last, other = trained(*TWO_LANGUAGES).last, new_mte(1)
    resume = run("fairseq-train", *trikd_options, "--mte", other, "--save-dir", tmp_path, "--finetune-from-model", last)
    assert "trained on other frozen weights than --mte holds" in resume.error
    start = run("fairseq-train", *trikd_options, "--mte", other, "--save-dir", tmp_path, "--init-projectors-from", last)
    assert "trained on other frozen weights than --mte holds" in start.error
    evaluate = ["mlvl-evaluate", "--checkpoint", last, "--captions", world / "test.de.json", "--lang", "de"]
    evaluate += ["--image-root", world / "images"]
    assert "is not the mte that" in run(*evaluate, "--mte", other).error
    assert "is not there: give it with --mte" in run(*evaluate, "--mte", tmp_path / "gone.pt").error
    assert "has no image tower" in run(*evaluate).error  # nobody has said where CLIP is
    assert "--init-from is of its CLIP, which is not known" in run(*evaluate, "--init-from", teacher).error
    moved = run(*evaluate, "--clip", teacher, "--image-weights", teacher).error
    assert re.search("there is no --image-weights for this kind of model", moved)


@pytest.fixture(scope="module")
def dual_corpus(corpus_without_teacher, pieces, mte, world, succeed, user_dir, tmp_path_factory):
    """A corpus and an English dual encoder, whose frozen image tower begins with a file, in CLIP's place."""
    folder = shutil.copytree(corpus_without_teacher, tmp_path_factory.mktemp("dual") / "corpus")
    for path in (folder / "features").iterdir():  # of the CLIP that other tests have
        path.unlink()
    tower, weights = EfficientNetLiteConfig(32).build(), folder.parent / "tower.pth"
    torch.save(tower.state_dict(), weights)
    towers = "--arch lilt --image-tower efficientnet_lite0 --image-size 32 --transform efficientnet_lite --embed-dim 24"
    text = "--text-tower clip_text_b32 --text-width 32 --text-layers 1 --text-heads 2 --preset lit --langs en"
    train = (
        "--criterion clip_contrastive --optimizer adam --lr 1e-3 --max-update 3 --batch-size 16 --num-workers 0 --cpu"
    )
    options = [
        *towers.split(),
        *text.split(),
        *train.split(),
        "--cpu",
        "--cache-frozen",
        "require",
        "--image-weights",
        weights,
    ]
    task = ["--user-dir", user_dir, "--task", "image_text_retrieval", "--image-root", world / "images"]
    succeed("fairseq-train", folder, *task, *options, "--save-dir", folder.parent / "teacher")
    teacher = folder.parent / "teacher" / "checkpoint_last.pt"
    succeed("mlvl-prepare", folder, "--teacher", teacher)
    succeed("mlvl-prepare", folder, "--sentencepiece", pieces, "--mte", mte, "--train-states", "en")
    return folder, teacher, weights


def test_a_teacher_s_frozen_tower_is_not_run_twice(dual_corpus):
    """Features made of the vectors that its training kept are those of its pictures."""
    folder, teacher, _ = dual_corpus
    encoder = Encoder.load(teacher)
    corpus = Corpus(folder)
    pictures = encoder.encode_image_files(corpus.manifest["image_root"], corpus.images("valid"))
    np.testing.assert_allclose(corpus.features("valid", "image"), pictures, rtol=1e-4, atol=1e-5)
    assert pictures.std(axis=0).min() > 1e-4


@pytest.mark.parametrize("arch, criterion", [("m2m", "m2m"), ("m2m", "trikd"), ("trikd_tiny", "trikd")])
def test_a_dual_encoder_in_clip_s_place(
    dual_corpus, succeed, trikd_options, world, read_json, tmp_path, arch, criterion
):
    """Scores of pictures through the checkpoint are those of validation, and it encodes pictures that come as files."""
    folder, teacher, weights = dual_corpus
    options = list(trikd_options[1:])
    options[options.index("--criterion") + 1], options[options.index("--arch") + 1] = criterion, arch
    if arch == "m2m":
        at = options.index("--encoder-embed-dim")
        del options[at : at + 4]
    heard = Validations()
    with heard.listening():
        save = ["--clip", teacher, "--cached-states", "--langs", "en", "--max-epoch", 1, "--save-dir", tmp_path]
        succeed("fairseq-train", folder, *options, *save)
    evaluate = ["mlvl-evaluate", "--checkpoint", tmp_path / "checkpoint_last.pt", "--lang", "en", "--image-root"]
    evaluate += [world / "images", "--captions", world / "valid.en.json", "--json", tmp_path / "scores.json"]
    succeed(*evaluate)
    scores = read_json(tmp_path / "scores.json")
    assert scores["r_mean"] == pytest.approx(float(heard.values[-1]["valid_r_mean"]), abs=0.5)
    assert "|transform:efficientnet_lite@32|" in scores["signature"]
    moved = shutil.copy(weights, tmp_path / "moved.pth")
    encoder = Encoder.load(tmp_path / "checkpoint_last.pt", image_weights=str(moved))
    names = Corpus(folder).images("valid")[:3]
    vectors = encoder.encode_image_files(world / "images", names)
    own = Encoder.load(teacher).encode_image_files(world / "images", names)
    expected = (
        own
        if arch == "m2m"
        else own @ tensors(tmp_path / "checkpoint_last.pt", ("model",))["model.c_projector.weight"].numpy().T
    )
    np.testing.assert_allclose(vectors, expected, rtol=1e-4, atol=1e-5)


def test_m2m_keeps_its_layers_only_and_goes_on(dual_corpus, succeed, run, trikd_options, tmp_path):
    folder, teacher, _ = dual_corpus
    options = ["--arch", "m2m", "--criterion", "m2m", "--linear-layers", 3, "--sentence", "last", "--max-epoch", 2]
    given = [folder, *trikd_options[1 : trikd_options.index("--arch")], *options, "--cached-states", "--cpu"]
    given += "--optimizer adam --lr 1e-3 --batch-size 16 --num-workers 0 --disable-validation".split()
    succeed("fairseq-train", *given, "--clip", teacher, "--save-dir", tmp_path / "whole")
    for updates in (3, 10**6):
        succeed("fairseq-train", *given, "--max-update", updates, "--save-dir", tmp_path / "parts")
    assert differing(tmp_path / "whole/checkpoint_last.pt", tmp_path / "parts/checkpoint_last.pt") == []
    saved = tensors(tmp_path / "whole/checkpoint_last.pt", ("model",))
    layers = {f"model.x_projector.layers.{n}.{kind}" for n in range(3) for kind in ("weight", "bias")}
    assert saved.keys() == {*layers, "model.logit_scale", "model.mte_fingerprint", "model.clip_fingerprint"}
    start = ["--init-projectors-from", tmp_path / "whole/checkpoint_last.pt", "--save-dir", tmp_path / "other"]
    assert "does not fit this model" in run("fairseq-train", *given, "--linear-layers", 2, *start).error
    trikd = [folder, *trikd_options[1:], "--criterion", "m2m", "--save-dir", tmp_path / "none"]
    assert "the model has no fixed_teacher_space" in run("fairseq-train", *trikd).error
