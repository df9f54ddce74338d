"""Checkpoints of this plugin as a source of weights."""

import os

import pytest
import torch

from mlvl_fairseq.checkpoints.clip import read_clip, read_clip_weights
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.modules.adapters import TowerShape, build_adapter


@pytest.fixture
def official(official_clip, tmp_path):
    torch.save({**official_clip.state_dict(), "context_length": torch.tensor(10)}, tmp_path / "clip.pt")
    return read_clip_weights(tmp_path / "clip.pt")


def save_checkpoint(path, text, vision, **options):
    model = {f"text.{name}": tensor for name, tensor in text.items()}
    model.update({f"vision.{name}": tensor for name, tensor in vision.items()})
    model["logit_scale"] = torch.tensor(2.5)
    torch.save({"model": model, "cfg": {"model": options}, "extra_state": {}}, path)
    return path


def test_whole_model_with_its_heads(official, tmp_path):
    path = save_checkpoint(tmp_path / "c.pt", official.text, official.vision, text_heads=4, vision_heads=2)
    weights = read_clip_weights(path)
    assert (weights.text_config.heads, weights.vision_config.heads, weights.logit_scale) == (4, 2, 2.5)
    assert all(torch.equal(weights.text[name], tensor) for name, tensor in official.text.items())


def test_frozen_tensors_come_from_their_origin(official, tmp_path):
    grown = {"token_embedding.weight": torch.randn(75, 64)}
    path = save_checkpoint(tmp_path / "c.pt", grown, {}, init_from=str(tmp_path / "clip.pt"))
    weights = read_clip_weights(path)
    assert torch.equal(weights.text["token_embedding.weight"], grown["token_embedding.weight"])
    assert torch.equal(weights.text["text_projection"], official.text["text_projection"])
    assert torch.equal(weights.vision["proj"], official.vision["proj"])
    assert weights.text_config.vocab_size == 75
    assert weights.text_tower()(torch.tensor([[1, 74]]), torch.tensor([1])).any()


def test_missing_origin_is_named_and_can_be_given(official, tmp_path):
    grown = {"token_embedding.weight": torch.randn(75, 64)}
    path = save_checkpoint(tmp_path / "c.pt", grown, {}, init_from=str(tmp_path / "gone.pt"))
    with pytest.raises(UserError, match="c.pt needs the frozen weights .*gone.pt is not there"):
        read_clip_weights(path)
    state = read_clip(path, init_from=tmp_path / "clip.pt")
    assert torch.equal(state.weights.text["ln_final.weight"], official.text["ln_final.weight"])


def test_head_on_image_features_is_no_image_tower(official, tmp_path):
    path = save_checkpoint(tmp_path / "c.pt", official.text, {"projection.weight": torch.ones(32, 8)})
    weights = read_clip_weights(path)
    assert weights.vision == {} and weights.vision_config is None
    assert torch.equal(read_clip(path).head["projection.weight"], torch.ones(32, 8))


@pytest.mark.parametrize("content", [{"model": {}}, {"model": {}, "cfg": None}, {"weights": 1}, [1]])
def test_other_files_of_torch_are_declined(tmp_path, content):
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(DataError, match="other.pt"):
        read_clip(tmp_path / "other.pt")


def test_truncated_and_hostile_checkpoints_are_refused(official, tmp_path):
    class Payload:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'executed'}",)

    path = save_checkpoint(tmp_path / "c.pt", official.text, official.vision)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(DataError, match="c.pt"):
        read_clip(path)
    torch.save({"model": {}, "cfg": {"model": Payload()}}, path)
    for read in (read_clip, read_clip_weights):
        with pytest.raises(DataError, match="c.pt"):
            read(path)
    assert not (tmp_path / "executed").exists()


def save_with_adapter(official, path, languages, **options):
    """A checkpoint with LoRA for its languages; gives its adapter."""
    shape = TowerShape(official.text_config.width, official.text_config.layers, official.text_config.embed_dim)
    adapter = build_adapter("lora", None, shape, ["en", "de"])
    for parameter in adapter.parameters():
        torch.nn.init.normal_(parameter)
    save_checkpoint(path, official.text, {}, adapter="lora", **options)
    state = torch.load(path, weights_only=True)
    state["model"].update({f"adapter.{name}": tensor for name, tensor in adapter.state_dict().items()})
    state["task_state"] = {"languages": languages}
    torch.save(state, path)
    return adapter


def test_adapter_is_not_lost_without_a_word(official, tmp_path, caplog):
    save_with_adapter(official, tmp_path / "c.pt", ["en", "de"])
    weights = read_clip_weights(tmp_path / "c.pt")
    assert all(torch.equal(weights.text[name], tensor) for name, tensor in official.text.items())
    assert "c.pt: its towers are read without the adapters of its languages" in caplog.text


def test_adapter_comes_with_its_languages(official, tmp_path):
    adapter = save_with_adapter(official, tmp_path / "c.pt", ["en", "de"])
    state = read_clip(tmp_path / "c.pt")
    assert state.adapter.languages == ["en", "de"] and not state.adapter.training
    assert all(torch.equal(state.adapter.state_dict()[name], tensor) for name, tensor in adapter.state_dict().items())
    assert state.fingerprint != state.weights.fingerprint
    plain = read_clip(save_checkpoint(tmp_path / "plain.pt", official.text, {}))
    assert plain.adapter is None and plain.fingerprint == plain.weights.fingerprint


@pytest.mark.parametrize("languages, options", [
    (["en", "de", "fr"], {}), (["en"], {}), (["en", "de"], {"lora_rank": 2}), (["en", "de"], {"lora_rank": 0})
])  # fmt: skip
def test_adapter_that_does_not_fit_its_options_is_refused(official, tmp_path, languages, options):
    save_with_adapter(official, tmp_path / "c.pt", languages, **options)
    with pytest.raises(DataError, match="c.pt: holds another adapter than its options say"):
        read_clip(tmp_path / "c.pt")
