"""What fairseq wrote and reads as XLM-R: its present layout, the released one, ours."""

import shutil
from argparse import Namespace

import pytest
import torch

from mlvl_fairseq.checkpoints.formats.xlmr import XlmrWeights, read_xlmr, write_xlmr
from mlvl_fairseq.data.text.sentencepiece import SentencePieceTokenizer, train_sentencepiece
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.modules.towers.xlmr import XlmrConfig, XlmrEncoder

TEXT = "the quick brown fox jumps over the lazy dog\nein schneller brauner Fuchs\n"
STOCK = """
import sys, torch
from fairseq.models.roberta import XLMRModel
folder, name = sys.argv[1:]
model = XLMRModel.from_pretrained(folder, checkpoint_file=name).eval()
assert not any(module.startswith("mlvl") for module in sys.modules)
tokens = model.encode("the quick Fuchs")
with torch.no_grad():
    torch.save({"tokens": tokens, "features": model.extract_features(tokens)}, folder + "/stock.pt")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("xlmr")
    (folder / "text").write_text(TEXT, encoding="utf-8")
    train_sentencepiece([folder / "text"], folder, 33)
    return folder


@pytest.fixture(scope="module")
def weights(folder):
    torch.manual_seed(0)
    config = XlmrConfig(35, layers=2, width=16, ffn_width=24, heads=4, max_positions=20, dropout=0.2)
    tensors = XlmrEncoder(config).state_dict()
    del tensors["version"]
    return XlmrWeights(config, tensors, "drawn")


def released(weights):
    """The layout of xlmr.base.tar.gz: a Namespace, ``decoder.``, the norm's old name, joined projections."""
    model, prefix = {}, "decoder.sentence_encoder."
    for name, tensor in weights.tensors.items():
        model[prefix + name.replace("layernorm_embedding", "emb_layer_norm")] = tensor
    for layer in range(weights.config.layers):
        for kind in ("weight", "bias"):
            place = f"{prefix}layers.{layer}.self_attn."
            parts = [model.pop(f"{place}{letter}_proj.{kind}") for letter in "qkv"]
            model[f"{place}in_proj_{kind}"] = torch.cat(parts)
    model["decoder.lm_head.weight"] = weights.tensors["embed_tokens.weight"]
    options = Namespace(arch="roberta_base", encoder_attention_heads=4, dropout=0.2, attention_dropout=0.1)
    return {"args": options, "model": model, "extra_state": {}}


def test_round_trip(weights, tmp_path):
    write_xlmr(weights, tmp_path / "model.pt")
    for path in (tmp_path, tmp_path / "model.pt"):
        read = read_xlmr(path)
        assert read.config == weights.config and read.fingerprint == weights.fingerprint
    assert read.source == str(tmp_path / "model.pt")


def test_stock_fairseq_loads_it_without_the_plugin(weights, folder, run_alone, tmp_path):
    shutil.copytree(folder, tmp_path / "out")
    write_xlmr(weights, tmp_path / "out" / "mte.pt")
    ended = run_alone("python", "-c", STOCK, tmp_path / "out", "mte.pt", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr[-2000:]
    stock = torch.load(tmp_path / "out" / "stock.pt")
    ids = SentencePieceTokenizer(folder).encode_batch(["the quick Fuchs"])[0]
    assert stock["tokens"].tolist() == [0, *ids, 2]
    with torch.no_grad():
        ours = read_xlmr(tmp_path / "out" / "mte.pt").encoder().eval()(stock["tokens"][None])
    assert torch.equal(ours, stock["features"])


def test_released_layout(weights, tmp_path):
    torch.save(released(weights), tmp_path / "model.pt")
    read = read_xlmr(tmp_path)
    assert read.config == weights.config and read.fingerprint == weights.fingerprint


def test_half_precision_file(weights, tmp_path):
    content = released(weights)
    content["model"] = {name: tensor.half() for name, tensor in content["model"].items()}
    torch.save(content, tmp_path / "model.pt")
    assert {tensor.dtype for tensor in read_xlmr(tmp_path).tensors.values()} == {torch.float32}


def test_encoder_holds_the_tensors(weights):
    encoder = weights.encoder()
    assert encoder.layers[1].fc1.weight.data_ptr() == weights.tensors["layers.1.fc1.weight"].data_ptr()
    assert encoder.config == weights.config


def damaged(content, kind):
    model, place = content["model"], "decoder.sentence_encoder."
    if kind == "missing":
        del model[place + "layers.1.fc2.bias"]
    elif kind == "unknown":
        model[place + "layers.0.adapter"] = torch.zeros(2)
    elif kind == "shape":
        model[place + "layers.1.fc2.bias"] = torch.zeros(3)
    elif kind == "other":
        content["model"] = {"decoder.embed_tokens.weight": torch.zeros(2, 2)}
    elif kind == "positions":
        del model[place + "embed_positions.weight"]
    elif kind == "heads":
        content["args"].encoder_attention_heads = 5
    elif kind == "no model":
        content["model"] = torch.zeros(2)
    return content


@pytest.mark.parametrize(
    "kind, message",
    [
        ("missing", "field 'layers.1.fc2.bias': tensor is missing"),
        ("unknown", "field 'layers.0.adapter': unknown tensor"),
        ("shape", r"field 'layers.1.fc2.bias': tensor has shape \[3\], expected \[16\]"),
        ("other", "holds no XLM-R encoder"),
        ("positions", "field 'embed_positions.weight': is missing"),
        ("heads", "5 attention heads do not divide"),
        ("no model", "field 'model': is missing or no dictionary"),
    ],
)
def test_bad_files_are_refused(weights, tmp_path, kind, message):
    torch.save(damaged(released(weights), kind), tmp_path / "model.pt")
    with pytest.raises(DataError, match=message):
        read_xlmr(tmp_path)


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


def test_nothing_in_a_file_is_executed(weights, tmp_path, capsys):
    torch.save({**released(weights), "extra_state": Evil()}, tmp_path / "model.pt")
    with pytest.raises(DataError, match="holds an object of type"):
        read_xlmr(tmp_path)
    assert "executed" not in capsys.readouterr().out
    with pytest.raises(DataError, match="missing.pt: no such file"):
        read_xlmr(tmp_path / "missing.pt")
