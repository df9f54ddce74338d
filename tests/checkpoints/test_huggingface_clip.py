"""Hugging Face's layout: an independent renaming by hand, a round trip, and folders that do not fit."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from mlvl_fairseq.checkpoints.clip import read_clip_weights
from mlvl_fairseq.checkpoints.formats.huggingface_clip import to_huggingface
from mlvl_fairseq.errors import DataError


@pytest.fixture(scope="module")
def official(official_clip, tmp_path_factory):
    path = tmp_path_factory.mktemp("official") / "state.pt"
    torch.save({**official_clip.state_dict(), "context_length": torch.tensor(10)}, path)
    return read_clip_weights(path)


@pytest.fixture
def folder(official, tmp_path):
    to_huggingface(official, tmp_path / "hf")
    return tmp_path / "hf"


def edit_config(folder, edit):
    config = json.loads((folder / "config.json").read_text())
    edit(config)
    (folder / "config.json").write_text(json.dumps(config))


def edit_weights(folder, edit):
    weights = load_file(folder / "model.safetensors")
    edit(weights)
    save_file(weights, folder / "model.safetensors")


def test_round_trip_keeps_every_bit(official, folder):
    again = read_clip_weights(folder)
    assert again.fingerprint == official.fingerprint
    assert again.text_config == official.text_config and again.vision_config == official.vision_config
    assert again.logit_scale == official.logit_scale
    assert read_clip_weights(folder / "model.safetensors").fingerprint == official.fingerprint


def test_exported_tensors_have_transformers_names_and_layout(official, folder):
    hf = load_file(folder / "model.safetensors")
    text, vision = official.text, official.vision
    block, theirs = "transformer.resblocks.1", "encoder.layers.1"
    expected = {
        "text_model.embeddings.token_embedding.weight": text["token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": text["positional_embedding"],
        f"text_model.{theirs}.self_attn.q_proj.weight": text[f"{block}.attn.in_proj_weight"][:64],
        f"text_model.{theirs}.self_attn.k_proj.bias": text[f"{block}.attn.in_proj_bias"][64:128],
        f"text_model.{theirs}.self_attn.v_proj.weight": text[f"{block}.attn.in_proj_weight"][128:],
        f"text_model.{theirs}.layer_norm2.bias": text[f"{block}.ln_2.bias"],
        f"text_model.{theirs}.mlp.fc2.weight": text[f"{block}.mlp.c_proj.weight"],
        "text_model.final_layer_norm.weight": text["ln_final.weight"],
        "text_projection.weight": text["text_projection"].T,
        "vision_model.embeddings.class_embedding": vision["class_embedding"],
        "vision_model.embeddings.patch_embedding.weight": vision["conv1.weight"],
        "vision_model.embeddings.position_embedding.weight": vision["positional_embedding"],
        "vision_model.pre_layrnorm.weight": vision["ln_pre.weight"],
        "vision_model.post_layernorm.bias": vision["ln_post.bias"],
        f"vision_model.{theirs}.self_attn.out_proj.weight": vision[f"{block}.attn.out_proj.weight"],
        f"vision_model.{theirs}.mlp.fc1.bias": vision[f"{block}.mlp.c_fc.bias"],
        "visual_projection.weight": vision["proj"].T,
    }
    for name, tensor in expected.items():
        assert torch.equal(hf[name], tensor), name
    assert hf["logit_scale"].shape == () and len(hf) == (5 + 2 * 16) + (8 + 2 * 16) + 1


def test_exported_configuration_describes_the_model(folder):
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["CLIPModel"] and config["projection_dim"] == 32
    text, vision = config["text_config"], config["vision_config"]
    assert (text["vocab_size"], text["max_position_embeddings"], text["eos_token_id"]) == (60, 10, 49407)
    assert (vision["image_size"], vision["patch_size"]) == (16, 8)
    for options in (text, vision):
        assert (options["hidden_size"], options["intermediate_size"], options["num_hidden_layers"]) == (64, 256, 2)
        assert options["num_attention_heads"] == 1 and options["hidden_act"] == "quick_gelu"


def test_heads_come_from_the_configuration(folder):
    def edit(config):
        config["text_config"]["num_attention_heads"] = 4
        config["vision_config_dict"] = {"num_attention_heads": 2}  # older exports: these win

    edit_config(folder, edit)
    weights = read_clip_weights(folder)
    assert (weights.text_config.heads, weights.vision_config.heads) == (4, 2)
    assert weights.text_tower().transformer.resblocks[0].attn.heads == 4


def test_silent_configuration_means_transformers_defaults(folder):
    edit_config(folder, lambda config: config.update(text_config={}, vision_config={"num_attention_heads": 1}))
    assert read_clip_weights(folder).text_config.heads == 8


def test_half_precision_and_position_indices_of_older_exports(official, folder):
    def edit(weights):
        weights.update({name: tensor.half() for name, tensor in weights.items() if tensor.dim() > 1})
        weights["text_model.embeddings.position_ids"] = torch.arange(10)[None]

    edit_weights(folder, edit)
    weights = read_clip_weights(folder)
    assert weights.text["token_embedding.weight"].dtype == torch.float32
    expected = official.text["token_embedding.weight"].half().float()
    assert torch.equal(weights.text["token_embedding.weight"], expected)


def test_text_tower_alone(official, folder, tmp_path):
    def drop_vision(weights):
        for name in [name for name in weights if name.startswith("vis") or name == "logit_scale"]:
            del weights[name]

    edit_weights(folder, drop_vision)
    weights = read_clip_weights(folder)
    assert weights.vision == {} and weights.vision_config is None and weights.logit_scale is None
    with pytest.raises(DataError, match="holds no image tower"):
        weights.vision_tower()
    to_huggingface(weights, tmp_path / "text")
    config = json.loads((tmp_path / "text" / "config.json").read_text())
    assert config["architectures"] == ["CLIPTextModelWithProjection"] and config["num_attention_heads"] == 1
    again = read_clip_weights(tmp_path / "text")
    assert again.fingerprint == weights.fingerprint and again.text_config == official.text_config


@pytest.mark.parametrize(
    "edit, message",
    [
        (lambda f: (f / "config.json").unlink(), "config.json: no such file; a Hugging Face folder"),
        (lambda f: (f / "config.json").write_text("{"), "config.json: not JSON"),
        (lambda f: (f / "config.json").write_text("[" * 100_000), "config.json: not JSON"),
        (lambda f: (f / "config.json").write_text("[]"), "config.json: expected object"),
        (lambda f: (f / "model.safetensors").unlink(), "model.safetensors: no such file"),
        (lambda f: (f / "model.safetensors").write_bytes(b"0" * 50), "is truncated or no safetensors file"),
        (
            lambda f: edit_config(f, lambda c: c["text_config"].update(hidden_act="gelu")),
            "hidden_act': is gelu and",
        ),
        (lambda f: edit_config(f, lambda c: c["vision_config"].update(layer_norm_eps=1e-6)), "'layer_norm_eps'"),
        (
            lambda f: edit_config(f, lambda c: c["text_config"].update(num_attention_heads="8")),
            "num_attention_heads': exp",
        ),
        (lambda f: edit_config(f, lambda c: c["text_config"].update(num_attention_heads=5)), "not a multiple of"),
        (lambda f: edit_weights(f, lambda w: w.pop("visual_projection.weight")), "visual_projection.weight': tensor"),
        (lambda f: edit_weights(f, lambda w: w.update(more=torch.ones(1))), "field 'more': unknown tensor"),
    ],
)
def test_folder_that_does_not_fit_is_explained(folder, edit, message):
    edit(folder)
    with pytest.raises(DataError, match=message):
        read_clip_weights(folder)


def test_truncated_weights_are_named(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="model.safetensors: is truncated or damaged"):
        read_clip_weights(folder)


def test_interrupted_export_leaves_the_earlier_one(official, folder, monkeypatch):
    def fail(*_args, **_options):
        raise OSError(28, "No space left on device")

    before = (folder / "model.safetensors").read_bytes()
    monkeypatch.setattr("safetensors.torch.save_file", fail)
    with pytest.raises(DataError, match="No space left on device"):
        to_huggingface(official, folder)
    assert (folder / "model.safetensors").read_bytes() == before
    assert {path.name for path in folder.iterdir()} == {"model.safetensors", "config.json"}
