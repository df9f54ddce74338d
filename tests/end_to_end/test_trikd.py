"""TriKD by its commands: pieces and features prepared, projectors trained on a frozen MTE and a frozen CLIP, evaluated."""

import json
import shutil

import numpy as np
import pytest
import torch

from mlvl_fairseq.checkpoints.comparison import differing, tensors
from mlvl_fairseq.checkpoints.xlmr import XlmrWeights, write_xlmr
from mlvl_fairseq.data.corpus import Corpus
from mlvl_fairseq.data.sentencepiece import load_xlmr_dictionary
from mlvl_fairseq.inference import Encoder
from mlvl_fairseq.modules.xlmr import XlmrConfig, XlmrEncoder

WIDTH = 32
TRAINING = (
    "--optimizer adam --lr 3e-3 --lr-scheduler fixed --batch-size 16 --required-batch-size-multiple 1 "
    "--best-checkpoint-metric r_mean --maximize-best-checkpoint-metric --no-epoch-checkpoints --num-workers 0 --cpu "
    "--log-format json --seed 1"
).split()
DIMENSIONS = ["--arch", "trikd_tiny", "--encoder-embed-dim", WIDTH, "--encoder-ffn-embed-dim", 64]


@pytest.fixture(scope="module")
def pieces(corpus, succeed, tmp_path_factory):
    """A SentencePiece folder in the layout of XLM-R's."""
    folder = tmp_path_factory.mktemp("pieces")
    files = sorted(Corpus(corpus).folder.glob("captions/train.??.txt"))
    succeed("mlvl-sentencepiece", folder, "--train", *files, "--vocab-size", 150)
    return folder


@pytest.fixture(scope="module")
def new_mte(pieces, tmp_path_factory):
    """``new_mte(seed)``: the file of a small untrained text encoder."""

    def write(seed):
        torch.manual_seed(seed)
        config = XlmrConfig(len(load_xlmr_dictionary(pieces)), 1, WIDTH, 64, 2, max_positions=100)
        state = XlmrEncoder(config).state_dict()
        state.pop("version")
        path = tmp_path_factory.mktemp("mte") / "mte.pt"
        write_xlmr(XlmrWeights(config, state, "new"), path)
        return path

    return write


@pytest.fixture(scope="module")
def mte(new_mte):
    return new_mte(0)


@pytest.fixture(scope="module")
def trikd_corpus(corpus, pieces, mte, succeed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trikd") / "corpus"
    shutil.copytree(corpus, folder)
    succeed("mlvl-prepare", folder, "--sentencepiece", pieces, "--mte", mte)
    return folder


@pytest.fixture(scope="module")
def options(trikd_corpus, pieces, mte, user_dir):
    """fairseq-train's arguments, but for ``--save-dir``."""
    task = ["--user-dir", user_dir, "--task", "trikd", "--criterion", "trikd"]
    return [trikd_corpus, *task, "--sentencepiece", pieces, "--mte", mte, *DIMENSIONS, *TRAINING]


@pytest.fixture(scope="module")
def trained(options, succeed, tmp_path_factory):
    """``trained(name, *options)``: the folder of a training, each done once; and what it logged."""
    done = {}

    def train(name, *more):
        if name not in done:
            folder = tmp_path_factory.mktemp(name)
            log = folder / "log"
            succeed("fairseq-train", *options, *more, "--save-dir", folder, "--log-file", log)
            done[name] = folder
        return done[name]

    return train


def validations(folder):
    lines = [line.partition(" | INFO | ")[2] for line in (folder / "log").read_text().splitlines()]
    return [json.loads(line.partition(" | ")[2]) for line in lines if line.startswith("valid | {")]


@pytest.fixture(scope="module")
def run_of_two_languages(trained):
    return trained("two", "--lang-pairs", "im-en,im-de", "--valid-langs", "en,de,ru", "--max-epoch", 2)


def test_only_projectors_temperature_and_fingerprints_are_saved(run_of_two_languages):
    model = torch.load(run_of_two_languages / "checkpoint_last.pt", weights_only=False)["model"]
    assert {name.split(".")[0] for name in model} == {
        "x_projector", "c_projector", "logit_scale", "mte_fingerprint", "clip_fingerprint",
    }  # fmt: skip
    assert (run_of_two_languages / "checkpoint_best.pt").stat().st_size < 1e6


def test_recalls_of_every_language_and_their_average(run_of_two_languages):
    for values in validations(run_of_two_languages):
        means = [float(values[f"valid_r_mean_{lang}"]) for lang in ("en", "de", "ru")]
        assert float(values["valid_r_mean"]) == pytest.approx(np.mean(means), abs=2e-3)
        assert {"valid_itc", "valid_ttc", "valid_txt_r1", "valid_img_r10"} <= values.keys()
    assert len(validations(run_of_two_languages)) == 2
