"""Tensor names do not say whether a CLIP has OpenAI's QuickGELU or open_clip's GELU: something else has to."""

import json

import pytest
import torch
import torch.nn.functional as F

from mlvl_fairseq.checkpoints.clip import read_clip, read_clip_weights
from mlvl_fairseq.checkpoints.formats.huggingface_clip import to_huggingface
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.fairseq_patches import import_clip

TOKENS, ENDS = torch.tensor([[1, 5, 9, 59, 0, 0, 0, 0, 0, 0]]), torch.tensor([3])


@pytest.fixture
def state():
    return import_clip().model.CLIP(32, 16, 2, 64, 8, 10, 60, 64, 1, 2).eval().state_dict()


@pytest.fixture
def file(state, tmp_path):
    """As open_clip writes it, or OpenAI's package: the same names."""
    torch.save(state, tmp_path / "open_clip_pytorch_model.bin")
    return tmp_path / "open_clip_pytorch_model.bin"


def with_config(file, content):
    (file.parent / "open_clip_config.json").write_text(content if isinstance(content, str) else json.dumps(content))


def activations(weights):
    return weights.text_config.activation, weights.vision_config.activation


def test_a_file_that_does_not_say_it_is_refused(file):
    with pytest.raises(UserError, match="model.bin has the names of .*--activation quick_gelu .*--activation gelu"):
        read_clip_weights(file)


@pytest.mark.parametrize("name", ["quick_gelu", "gelu"])
def test_the_user_can_say_it(file, name):
    assert activations(read_clip_weights(file, name)) == (name, name)
    with pytest.raises(UserError, match="no activation 'relu'; there are: quick_gelu, gelu"):
        read_clip_weights(file, "relu")


def test_the_configuration_beside_it_says_it(file):
    for options, expected in (({}, "gelu"), ({"quick_gelu": False}, "gelu"), ({"quick_gelu": True}, "quick_gelu")):
        with_config(file, {"model_cfg": {"embed_dim": 32, **options}, "preprocess_cfg": {}})
        assert activations(read_clip_weights(file)) == (expected, expected)
    with pytest.raises(UserError, match="says that its activation is quick_gelu, not gelu: leave --activation out"):
        read_clip_weights(file, "gelu")
    with_config(file, {"model_cfg": {"quick_gelu": 1}})
    with pytest.raises(DataError, match="open_clip_config.json field 'model_cfg.quick_gelu': expected bool, found 1"):
        read_clip_weights(file)


@pytest.mark.parametrize("mark", ["input_resolution", "context_length", "vocab_size"])
def test_sizes_among_the_tensors_are_openais(state, tmp_path, mark):
    torch.save({**state, mark: torch.tensor(10)}, tmp_path / "c.pt")
    assert activations(read_clip_weights(tmp_path / "c.pt")) == ("quick_gelu", "quick_gelu")


def test_towers_compute_with_it(file):
    """The features of a tower with one block, recomputed with torch's own GELU."""
    tower = read_clip_weights(file, "gelu").text_tower()
    quick = read_clip_weights(file, "quick_gelu").text_tower()
    with torch.no_grad():
        for block in tower.transformer.resblocks:
            x = torch.randn(3, 64)
            fc, proj = block.mlp.c_fc, block.mlp.c_proj
            torch.testing.assert_close(
                block.mlp(x), F.linear(F.gelu(x @ fc.weight.T + fc.bias), proj.weight, proj.bias)
            )
        assert not torch.allclose(tower(TOKENS, ENDS), quick(TOKENS, ENDS), atol=1e-6)


def test_equal_tensors_with_another_activation_are_other_weights(file):
    assert read_clip_weights(file, "gelu").fingerprint != read_clip_weights(file, "quick_gelu").fingerprint


def test_hugging_face_folders_know_it(file, tmp_path):
    weights = read_clip_weights(file, "gelu")
    to_huggingface(weights, tmp_path / "hf")
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert config["text_config"]["hidden_act"] == config["vision_config"]["hidden_act"] == "gelu"
    again = read_clip_weights(tmp_path / "hf")
    assert activations(again) == ("gelu", "gelu") and again.fingerprint == weights.fingerprint


def save_trained(path, origin, **options):
    model = {"text.token_embedding.weight": torch.randn(60, 64)}
    torch.save({"model": model, "cfg": {"model": {"init_from": str(origin), **options}}}, path)
    return path


def test_trained_checkpoints_know_it(file, tmp_path):
    earlier = save_trained(tmp_path / "earlier.pt", file)  # its version knew QuickGELU only
    assert read_clip_weights(earlier).text_config.activation == "quick_gelu"
    told = save_trained(tmp_path / "told.pt", file, activation="gelu")
    assert read_clip_weights(told).text_config.activation == "gelu"
    to_huggingface(read_clip_weights(file, "gelu"), tmp_path / "hf")
    taken = save_trained(tmp_path / "taken.pt", tmp_path / "hf", activation=None)
    assert read_clip(taken).weights.text_config.activation == "gelu"
    with pytest.raises(UserError, match="told.pt says that its activation is gelu, not quick_gelu"):
        read_clip_weights(told, "quick_gelu")
