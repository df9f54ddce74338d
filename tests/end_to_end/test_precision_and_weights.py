"""Half precision on a CPU, and the other sources of images and weights: given features, official CLIP files."""

import shutil
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from mlvl_fairseq.checkpoints.comparison import largest_difference
from mlvl_fairseq.checkpoints.safe_loading import load_checkpoint_file
from mlvl_fairseq.data.corpus import Corpus
from mlvl_fairseq.fairseq_patches import import_clip
from mlvl_fairseq.inference.encoder import Encoder

TEXT = ["--embed-dim", 32, "--text-width", 32, "--text-layers", 1, "--text-heads", 2]


@pytest.fixture(scope="module")
def train(succeed, cll, tmp_path_factory):
    """Learns German after English; gives the last checkpoint."""

    def run(*options, method="cll_clip_with_teir", english):
        folder = tmp_path_factory.mktemp("run")
        learned = ["--finetune-from-model", english(method), "--max-epoch", 1]
        succeed("fairseq-train", *cll("de", "en", method), *learned, *options, "--save-dir", folder)
        return folder / "checkpoint_last.pt"

    return run


@pytest.fixture(scope="module")
def single(train, english):
    """The checkpoint of a training in single precision."""
    return train(english=english)


def test_bf16_learns_nearly_the_same(train, english, single, evaluated):
    """TEIR's row scales reach the fp32 copies of half-precision weights, too: rows that German does not use stay."""
    reduced = train("--bf16", english=english)
    paths = reduced, single, english("cll_clip_with_teir")
    model, *states = (load_checkpoint_file(path)["model"] for path in paths)
    weight, full, before = (state["text.token_embedding.weight"] for state in (model, *states))
    assert torch.equal(weight, weight.bfloat16().float())  # fairseq saves all weights in single precision
    current = model["language_state.current_tokens"][: len(before)] > 0
    assert 50 < current.sum() < 400
    assert torch.equal(weight[: len(before)][~current], before[~current].bfloat16().float())
    learned, lost = ((rows[: len(before)] - full[: len(before)])[current].abs().mean() for rows in (before, weight))
    assert lost < learned / 4
    assert abs(evaluated(reduced) - evaluated(single)) < 20


def test_amp_on_a_cpu_is_single_precision(train, english, single):
    """torch.cuda.amp, which fairseq uses, leaves CPUs alone."""
    assert largest_difference(train("--amp", english=english), single) == 0


@pytest.fixture
def evaluated(succeed, world, tmp_path, read_json):
    def r_mean(checkpoint):
        captions = ["--captions", world / "test.de.json", "--lang", "de", "--image-root", world / "images"]
        succeed("mlvl-evaluate", "--checkpoint", checkpoint, *captions, "--json", tmp_path / "scores.json")
        return read_json(tmp_path / "scores.json")["r_mean"]

    return r_mean


def test_fp16_needs_a_gpu(run, cll, tmp_path):
    ended = run("fairseq-train", *cll("en"), "--fp16", "--max-epoch", 1, "--save-dir", tmp_path)
    assert ended.error == "--fp16 trains on GPUs only: leave it out on a CPU, or use --bf16"


@pytest.fixture(scope="module")
def given_features(world, corpus, tmp_path_factory):
    """Features of 24 dimensions by split, and their image names: pixels, averaged."""
    folder = tmp_path_factory.mktemp("features")
    for split in ("train", "valid", "test"):
        names = sorted(path.relative_to(world / "images").as_posix() for path in (world / "images" / split).iterdir())
        pixels = [np.asarray(Image.open(world / "images" / name).convert("RGB").resize((4, 2))) for name in names]
        np.save(folder / f"{split}.npy", np.stack(pixels).reshape(len(names), 24).astype(np.float32) / 255)
        (folder / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    return folder


def test_given_features_instead_of_pictures(
    succeed, given_features, caption_patterns, teacher_options, sequence_options, evaluate_features, tmp_path, read_json
):
    """The model `clip_tiny`: a head on features of a frozen network. It needs no picture."""
    corpus, teacher, run = tmp_path / "corpus", tmp_path / "teacher", tmp_path / "run"
    files = [["--image-features", "npy"], ["--image-list", "txt"]]
    splits = ("train", "valid", "test")
    given = [[option, *(f"{split}={given_features / split}.{suffix}" for split in splits)] for option, suffix in files]
    succeed("mlvl-prepare", corpus, *caption_patterns, *given[0], *given[1], "--order", "en,de")
    clip_tiny = ["--arch", "clip_tiny", *TEXT, "--vision-width", 16]
    arch = [*teacher_options, *clip_tiny]
    succeed("fairseq-train", corpus, *arch, "--image-dropout", 0.1, "--max-epoch", 1, "--save-dir", teacher)
    best = teacher / "checkpoint_best.pt"
    succeed("mlvl-prepare", corpus, "--teacher", best)
    assert Corpus(corpus).features("train", "inputs").shape == (60, 24)
    assert Corpus(corpus).features("train", "image").shape == (60, 32)
    options = [*sequence_options, *clip_tiny, "--init-from", best]
    succeed("mlvl-cll", corpus, run, "--order", "en,de", *options)
    features = ["--image-features", given_features / "test.npy", "--image-list", given_features / "test.txt"]
    scores = evaluate_features(run / "01-de" / "checkpoint_best.pt", *features)
    assert scores == read_json(run / "scores" / "01-de" / "de.test.json")


@pytest.fixture
def evaluate_features(succeed, world, tmp_path, read_json):
    def scores(checkpoint, *features):
        captions = ["--captions", world / "test.de.json", "--lang", "de", "--json", tmp_path / "scores.json"]
        succeed("mlvl-evaluate", "--checkpoint", checkpoint, *captions, *features)
        return read_json(tmp_path / "scores.json")

    return scores


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """A small CLIP of the official kind with random weights, in half precision, and the TorchScript archive of it."""
    model = import_clip().model
    torch.manual_seed(0)
    clip_model = model.CLIP(32, 32, 1, 64, 16, 77, 49408, 64, 1, 1).eval()
    model.convert_weights(clip_model)
    path = tmp_path_factory.mktemp("official") / "ViT-tiny.pt"
    inputs = {
        "encode_image": (torch.zeros(1, 3, 32, 32, dtype=clip_model.dtype),),
        "encode_text": (torch.zeros(1, 77, dtype=torch.long),),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace_module(clip_model, inputs, check_trace=False), path)
    return clip_model.float(), path


def test_official_weights_teach_and_are_taught(
    succeed, corpus, world, official, sequence_options, evaluated, tmp_path, read_json
):
    clip_model, path = official
    own = shutil.copytree(corpus, tmp_path / "corpus")
    for file in (own / "features").iterdir():
        file.unlink()
    succeed("mlvl-prepare", own, "--teacher", path)

    clip, prepared = import_clip(), Corpus(own)
    picture = Image.open(world / "images" / prepared.images("test")[3])
    with torch.no_grad():
        image = clip_model.encode_image(clip.clip._transform(32)(picture)[None])
        text = clip_model.encode_text(clip.tokenize(prepared.english("test")[5]))
    np.testing.assert_allclose(prepared.features("test", "image")[3], image[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(prepared.features("test", "text")[5], text[0], rtol=1e-4, atol=1e-5)

    vit = ["--patch-size", 16, "--vision-width", 64, "--vision-layers", 1, "--vision-heads", 1]
    sizes = [*TEXT, "--text-width", 64, "--text-heads", 1, "--image-size", 32, *vit]
    options = [*sequence_options, "--arch", "clip_vit_b32", *sizes, "--init-from", path]
    succeed("mlvl-cll", own, tmp_path / "run", "--order", "en,de", "--method", "cll_clip_with_teir", *options)
    best = tmp_path / "run" / "01-de" / "checkpoint_best.pt"
    assert evaluated(best) == read_json(tmp_path / "run" / "scores" / "01-de" / "de.test.json")["r_mean"]
    saved = load_checkpoint_file(best)["model"]
    assert not [name for name in saved if name.startswith("text.") and "token_embedding" not in name]
    frozen = dict(Encoder.load(best).network.text.named_parameters())
    for name, parameter in clip_model.named_parameters():
        if name in frozen and name != "token_embedding.weight":
            assert torch.equal(frozen[name], parameter), name
