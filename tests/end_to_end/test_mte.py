"""mCLIP's text encoder from parallel text to an exported XLM-R, by the commands themselves."""

import io
import re
import sys

import pytest
import torch
from fairseq.models.roberta import XLMRModel

from mlvl_fairseq.checkpoints.xlmr import XlmrWeights, read_xlmr, write_xlmr
from mlvl_fairseq.compat import load_checkpoint_file
from mlvl_fairseq.data.picture_world import WorldSettings, get_language, plan_world
from mlvl_fairseq.data.sentencepiece import SentencePieceTokenizer, load_xlmr_dictionary
from mlvl_fairseq.modules.xlmr import XlmrConfig, XlmrEncoder

PAIRS = ("de-en", "en-fr")  # as the files are called; both directions are trained
SIZES = {"train": 60, "valid": 10, "test": 5}  # pictures with two captions each, which translate each other
DIMENSIONS = (
    "--arch mte_tiny --encoder-layers 1 --encoder-embed-dim 32 --encoder-ffn-embed-dim 64 --decoder-layers 1 "
    "--decoder-ffn-embed-dim 64"
).split()
TRAINING = (
    "--criterion mte --optimizer adam --lr 1e-3 --clip-norm 2 --max-tokens 400 --num-workers 0 --cpu --log-format json "
    "--no-epoch-checkpoints --bleu-sentences 4 --bleu-beam 2 --max-source-positions 64 --max-target-positions 64 "
    "--best-checkpoint-metric bleu --maximize-best-checkpoint-metric"
).split()
ENCODER, EMBEDDING = "encoder.xlmr.", "encoder.xlmr.embed_tokens.weight"


def captions(split, lang):
    pictures = plan_world(WorldSettings(**SIZES))[split]
    return [get_language(lang).caption(plan) for picture in pictures for plan in picture.plans]


def encode(run_here, folder, text, path):
    """mlvl-encode on lines of text; what it prints goes to a file."""
    printed = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    given = io.TextIOWrapper(io.BytesIO("".join(f"{line}\n" for line in text).encode()), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "stdin", given)
        patch.setattr(sys, "stdout", printed)
        run_here("mlvl-encode", "--sentencepiece", folder)
    assert ended.value.code == 0
    path.write_bytes(printed.buffer.getvalue())


@pytest.fixture(scope="module")
def xlmr(succeed, tmp_path_factory):
    """A small XLM-R folder with random weights."""
    folder = tmp_path_factory.mktemp("xlmr")
    text = folder / "text"
    text.write_text("\n".join(line for lang in ("en", "de", "fr") for line in captions("train", lang)), "utf-8")
    succeed("mlvl-sentencepiece", folder, "--train", text, "--vocab-size", 150, "--character-coverage", 1)
    torch.manual_seed(0)
    config = XlmrConfig(len(load_xlmr_dictionary(folder)), 1, 32, 64, 4, max_positions=64)
    tensors = XlmrEncoder(config).state_dict()
    del tensors["version"]
    write_xlmr(XlmrWeights(config, tensors, ""), folder / "model.pt")
    return folder


@pytest.fixture(scope="module")
def data(run_here, succeed, xlmr, tmp_path_factory):
    """The folder that fairseq-preprocess writes, once for every pair of languages."""
    folder = tmp_path_factory.mktemp("parallel")
    for pair in PAIRS:
        for split in SIZES:
            for lang in pair.split("-"):
                encode(run_here, xlmr, captions(split, lang), folder / f"{split}.{pair}.{lang}")
        source, target = pair.split("-")
        prefixes = [f"--{split}pref={folder / split}.{pair}" for split in SIZES]
        dictionaries = ["--srcdict", xlmr / "dict.txt", "--tgtdict", xlmr / "dict.txt"]
        succeed("fairseq-preprocess", "-s", source, "-t", target, *prefixes, *dictionaries, "--destdir", folder / "bin")
    return folder / "bin"


@pytest.fixture(scope="module")
def train(succeed, data, user_dir):
    """fairseq-train with small dimensions: ``train(folder, ...)`` -> best checkpoint."""

    def command(folder, *options):
        task = ["--user-dir", user_dir, "--task", "mte_pretraining", "--save-dir", folder]
        command.log = succeed("fairseq-train", data, *task, *DIMENSIONS, *TRAINING, *options)
        return folder / "checkpoint_best.pt"

    return command


@pytest.fixture(scope="module")
def stage1(train, xlmr, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stage1")
    return train(folder, "--xlmr", xlmr, "--contrastive-lambda", 0, "--max-epoch", 1)


@pytest.fixture(scope="module")
def stage2(train, xlmr, stage1, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stage2")
    options = ["--xlmr", xlmr, "--init-from", stage1, "--train-encoder", "layers", "--max-epoch", 1]
    return train(folder, *options, "--smoothing-to", "all")


def test_checkpoints_leave_out_what_was_frozen(stage1, stage2, xlmr):
    first, second = (load_checkpoint_file(path)["model"] for path in (stage1, stage2))
    trained = {name for name in first if name.startswith(ENCODER)}
    assert trained == {ENCODER + "version"} and EMBEDDING not in second
    assert not [name for name in (*first, *second) if "embed_tokens" in name or "output_projection" in name]
    original = read_xlmr(xlmr).tensors
    for name, tensor in original.items():
        if name.startswith("layers."):
            assert not torch.equal(second[ENCODER + name], tensor), name
    whole = read_xlmr(stage1)  # with what it left out
    assert whole.fingerprint == read_xlmr(xlmr).fingerprint


def test_stage_2_starts_from_stage_1(train, xlmr, stage1, tmp_path):
    options = ["--xlmr", xlmr, "--init-from", stage1, "--train-encoder", "layers", "--max-epoch", 1]
    checkpoint = train(tmp_path, *options, "--lr", "0")
    first, second = (load_checkpoint_file(path)["model"] for path in (stage1, checkpoint))
    for name, tensor in first.items():
        if name != "frozen_fingerprint":
            assert torch.equal(tensor, second[name]), name


def test_export_is_an_xlmr_for_fairseq(succeed, run_here, stage2, xlmr, tmp_path):
    out = tmp_path / "out" / "mte.pt"
    with pytest.raises(SystemExit) as ended:
        run_here("mlvl-export", "mte", stage2, out, "--sentencepiece", xlmr)
    assert ended.value.code == 0
    hub = XLMRModel.from_pretrained(str(out.parent), checkpoint_file="mte.pt").eval()
    tokens = hub.encode(captions("test", "de")[0])
    ids = SentencePieceTokenizer(xlmr).encode_batch(captions("test", "de")[:1])[0]
    assert tokens.tolist() == [0, *ids, 2]
    encoder = read_xlmr(stage2).encoder().eval()
    with torch.no_grad():
        assert torch.equal(hub.extract_features(tokens), encoder(tokens[None]))
    assert not torch.equal(encoder.layers[0].fc1.weight, read_xlmr(xlmr).tensors["layers.0.fc1.weight"])


def hypotheses(printed, letter="D"):
    lines = re.findall(rf"^{letter}-(\d+)\t(?:\S+\t)?(.*)$", printed, re.MULTILINE)
    return [text for _, text in sorted(lines, key=lambda line: int(line[0]))]


def translate(succeed, command, data, user_dir, checkpoint, xlmr, *options):
    bpe = ["--bpe", "sentencepiece", "--sentencepiece-model", xlmr / "sentencepiece.bpe.model"]
    task = ["--user-dir", user_dir, "--task", "mte_pretraining", "--path", checkpoint, "--cpu", "--max-len-b", 30]
    return succeed(command, data, *task, *bpe, "--beam", 2, *options)


def test_generate_and_interactive_translate_alike(succeed, data, user_dir, stage2, xlmr, tmp_path, monkeypatch):
    directions = {}
    for target in ("en", "fr"):
        source = {"en": "de", "fr": "en"}[target]
        options = ["-s", source, "-t", target]
        printed = translate(
            succeed, "fairseq-generate", data, user_dir, stage2, xlmr, *options, "--sacrebleu", "--gen-subset", "test"
        )
        assert hypotheses(printed, "S") == captions("test", source) and hypotheses(printed, "T") == captions(
            "test", target
        )
        assert len(hypotheses(printed)) == 10 and "BLEU" in printed
        (tmp_path / "input").write_text("".join(line + "\n" for line in captions("test", source)), encoding="utf-8")
        interactive = translate(
            succeed, "fairseq-interactive", data, user_dir, stage2, xlmr, *options, "--input", tmp_path / "input"
        )
        assert hypotheses(interactive) == hypotheses(printed)
        directions[target] = hypotheses(printed)
    assert directions["en"] != directions["fr"]
