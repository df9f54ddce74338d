"""What commit 53e6f82 (version 0.1.0) wrote is evaluated, continued and converted; its numbers are in the archive.

They are another processor's: what training gives is the same up to its rounding, which grows with the updates.
"""

import json
import shutil

import numpy as np
import pytest
import torch
from earlier_version import unpack

from mlvl_fairseq.checkpoints.comparison import PROGRESS, differing, tensors
from mlvl_fairseq.checkpoints.formats.xlmr import read_xlmr
from mlvl_fairseq.inference import Encoder

MODELS = ("teacher", "der-en", "der-de", "mla-en", "codaprompt-en", "trikd")
SETTINGS = ("method", "arch", "lr", "batch_size", "max_epoch", "seed")
MTE = """--task mte_pretraining --arch mte_tiny --encoder-layers 1 --encoder-embed-dim 8 --encoder-ffn-embed-dim 16
    --encoder-attention-heads 2 --decoder-layers 1 --decoder-ffn-embed-dim 16 --decoder-attention-heads 2
    --criterion mte --validate-interval 10 --save-interval 10 --optimizer adam --lr 1e-2 --clip-norm 2
    --max-tokens 400 --num-workers 0 --cpu --log-format json --no-epoch-checkpoints
    --bleu-sentences 4 --bleu-beam 2 --max-source-positions 64 --max-target-positions 64
    --best-checkpoint-metric chrf --maximize-best-checkpoint-metric --train-encoder layers
    --required-batch-size-multiple 1 --max-epoch 30""".split()
TRIKD = """--task trikd --criterion trikd --arch trikd_tiny --encoder-embed-dim 8 --encoder-ffn-embed-dim 16
    --encoder-attention-heads 2 --langs en --valid-langs en,de --optimizer row_adamw --lr-scheduler warmup_constant
    --warmup-updates 2 --clip-norm 1 --batch-size 16 --required-batch-size-multiple 1 --best-checkpoint-metric r_mean
    --maximize-best-checkpoint-metric --no-epoch-checkpoints --num-workers 0 --cpu --log-format json --seed 1 --lr 1e-2
    --max-epoch 60""".split()


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """The files, where they were not made: runs do not know where their corpus and their first weights are now."""
    return unpack(tmp_path_factory.mktemp("earlier"))


@pytest.fixture(scope="module")
def expected(earlier):
    return json.loads((earlier / "expected.json").read_text())


def frozen(root, name):
    """Where the frozen files of a model are."""
    if name == "trikd":
        return {
            "mte": root / "exported/mte.pt",
            "clip": root / "teacher/checkpoint_best.pt",
            "sentencepiece": root / "xlmr",
        }
    return {} if name == "teacher" else {"init_from": root / "teacher/checkpoint_best.pt"}


def flags(options):
    return [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]


def scores_of(run_here, capsys, root, name, expected, *more):
    """What ``mlvl-evaluate`` prints of a model in both languages, the version in signatures apart."""
    capsys.readouterr()
    with pytest.raises(SystemExit, match="0"):
        run_here(
            "mlvl-evaluate", "--checkpoint", root / expected["models"][name]["checkpoint"], "--lang", "en,de",
            "--captions", root / "captions/test.{lang}.json", "--image-features", root / "given/test.npy",
            "--image-list", root / "given/test.txt", "--format", "json", *flags(frozen(root, name)), *more,
        )  # fmt: skip
    return without_version(json.loads(capsys.readouterr().out))


def without_version(scores):
    if isinstance(scores, dict):
        return {key: without_version(value) for key, value in scores.items()}
    return scores.rpartition("|version:")[0] if isinstance(scores, str) else pytest.approx(scores, abs=1e-9)


@pytest.mark.parametrize("name", MODELS)
def test_models_give_the_scores_and_features_they_gave(name, earlier, expected, run_here, capsys):
    model, features = expected["models"][name], np.load(earlier / "features.npz")
    encoder = Encoder.load(earlier / model["checkpoint"], **frozen(earlier, name))
    assert encoder.fingerprint == model["fingerprint"] and encoder.languages == model["languages"]
    for lang, captions in expected["captions"].items():
        found = encoder.encode_texts(captions, lang)
        np.testing.assert_allclose(found, features[f"{name}.{lang}"], rtol=1e-4, atol=2e-6)
    images = encoder.encode_features(np.load(earlier / "given/test.npy")[:3])
    np.testing.assert_allclose(images, features[f"{name}.images"], rtol=1e-4, atol=2e-6)
    assert scores_of(run_here, capsys, earlier, name, expected) == without_version(model["scores"])


def test_every_model_is_among_them(expected):
    assert expected["models"].keys() == set(MODELS)


def test_finished_scores_are_taken_up(earlier, expected, run_here, capsys):
    stored = json.loads((earlier / "scores/trikd.json").read_text())
    files = {path: path.stat().st_mtime_ns for path in (earlier / "scores/trikd").glob("*.test.json")}
    found = scores_of(run_here, capsys, earlier, "trikd", expected, "--output-dir", earlier / "scores/trikd")
    assert found == without_version(stored)
    assert len(files) == 2 and all(path.stat().st_mtime_ns == time for path, time in files.items())


NEW = {"task_state.dictionary"}  # what checkpoints did not say then


def assert_near(found, expected, tolerance):
    """Two checkpoints are as far in training, and their weights at most `tolerance` apart, which is less than a step
    or two with these learning rates. Biases of keys change nothing that a network gives: only noise moves them."""
    one, other = weights(found), weights(expected)
    assert one.keys() == other.keys() and len(one) > 10
    assert progress(found, expected) <= NEW
    for place in one:
        torch.testing.assert_close(one[place], other[place], rtol=0, atol=tolerance)


def weights(path):
    return {place: one for place, one in tensors(path, ["model"]).items() if not place.endswith("k_proj.bias")}


def progress(found, expected):
    """Which of the numbers that say how far a training is are different."""
    return {place for place in differing(found, expected) if place.split(".")[0] in PROGRESS}


def assert_gone_on(found, expected, begun):
    """A checkpoint is as far in training, on a way as long as that of the expected one and in the same direction, but
    another: since padding is not computed, dropout draws for tokens alone."""
    assert progress(found, expected) <= {*NEW, "best", "val_loss"}
    start, one, other = (
        torch.cat([one.double().flatten() for one in weights(path).values()]) for path in (begun, found, expected)
    )
    assert 0.9 < (one - start).norm() / (other - start).norm() < 1.1
    assert torch.cosine_similarity(one - start, other - start, dim=0) > 0.7


def learn(succeed, root, run, order="en,de"):
    settings = json.loads((root / "runs" / run / "run.json").read_text())
    options = {name: settings[name] for name in SETTINGS}
    options["init_from"] = root / "teacher/checkpoint_best.pt"
    command = ["mlvl-cll", root / "corpus", root / "runs" / run, "--order", order, *flags(options), *settings["extra"]]
    succeed(*command)
    return root / "runs" / run


@pytest.mark.parametrize("begun, ended", [
    ("interrupted", "whole"), ("mla", "mla.longer"), ("codaprompt", "codaprompt.longer"),
])  # fmt: skip
def test_runs_go_on(begun, ended, earlier, succeed):
    """One was interrupted within its second language, the others learn one language more."""
    run, whole = learn(succeed, earlier, begun), earlier / "runs" / ended
    assert_near(run / "01-de/checkpoint_best.pt", whole / "01-de/checkpoint_best.pt", 1e-4)
    for path in whole.glob("scores/01-de/*.json"):
        mine = json.loads((run / path.relative_to(whole)).read_text())
        assert without_version(mine) == without_version(json.loads(path.read_text()))


def test_finished_runs_stay_as_they_are(earlier, succeed):
    before = {path: path.stat().st_mtime_ns for path in (earlier / "runs/whole").rglob("*.pt")}
    learn(succeed, earlier, "whole")
    assert before and before == {path: path.stat().st_mtime_ns for path in (earlier / "runs/whole").rglob("*.pt")}


@pytest.mark.parametrize("family", ["mte", "trikd"])
def test_trainings_go_on(family, earlier, run_here, user_dir, tmp_path):
    files = {"sentencepiece": earlier / "xlmr", **frozen(earlier, "trikd")}
    options = [*TRIKD, *flags(files)] if family == "trikd" else [*MTE, "--xlmr", earlier / "xlmr"]
    data, folder = earlier / ("corpus" if family == "trikd" else "parallel"), earlier / f"{family}.stopped"
    begun = shutil.copy(folder / "checkpoint_last.pt", tmp_path)
    run_here("fairseq-train", data, "--user-dir", user_dir, *options, "--save-dir", folder)
    assert_gone_on(folder / "checkpoint_last.pt", earlier / family / "checkpoint_last.pt", begun)


def test_a_text_encoder_is_exported_as_it_was(earlier, expected, run_here, tmp_path):
    out = tmp_path / "xlmr"
    arguments = ("--sentencepiece", earlier / "xlmr", "--xlmr", earlier / "xlmr")
    with pytest.raises(SystemExit, match="0"):
        run_here("mlvl-export", "xlmr", earlier / "mte/checkpoint_best.pt", out, *arguments)
    digests = {read_xlmr(path).fingerprint for path in (out, earlier / "exported/mte.pt")}
    assert digests == {expected["mte"]["exported"]["fingerprint"]}


def test_its_runs_are_reported(earlier, run_here, tmp_path):
    with pytest.raises(SystemExit, match="0"):
        run_here("mlvl-report", earlier / "runs/whole", "--output", tmp_path, "--format", "json")
    method = json.loads((tmp_path / "report.json").read_text())["methods"]["der_with_teir_update"]
    assert method["AA"]["r_mean"] == pytest.approx(84.4, abs=0.05) and method["F"]["r_mean"] == pytest.approx(
        0.7, abs=0.05
    )
