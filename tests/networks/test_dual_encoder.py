"""The dual encoder of LilT: outputs and gradients of the published code, its temperature, what is frozen and rests."""

from types import SimpleNamespace

import pytest
import torch
from golden import load_golden
from golden_lilt import NETWORK, NETWORK_PRESETS, arrays, first_gradients, golden_batch, golden_network
from torch import nn

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.losses import contrastive_loss
from mlvl_fairseq.modules.adapters.layerwise import LayerwiseAdapter
from mlvl_fairseq.modules.towers.bert import BertConfig
from mlvl_fairseq.modules.towers.features import FeaturesConfig
from mlvl_fairseq.modules.towers.vit import ViTConfig
from mlvl_fairseq.networks.dual_encoder import DualEncoderNetwork, TowerConfigs, stage_numbers
from mlvl_fairseq.networks.freezing import freeze_parameters

LOSS = load_golden("lilt_training")["contrastive_loss"]


@pytest.mark.parametrize("mode", NETWORK_PRESETS)
def test_outputs_are_the_published_ones(mode):
    network, batch = golden_network(mode).eval(), golden_batch()
    network.keep_states()
    tokens, ends = batch["net_input"]["tokens"], batch["net_input"]["eos_positions"]
    image, text = network.encode_image(batch["image_features"]), network.encode_text(tokens, ends)
    torch.testing.assert_close(image.states, arrays(f"{mode}_vit_tokens", "network"), rtol=0, atol=1e-5)
    expected = arrays(f"{mode}_bert_hidden", "network")
    torch.testing.assert_close(text.states[text.mask], expected[text.mask], rtol=0, atol=1e-5)
    assert text.mask.sum(1).tolist() == (ends + 1).tolist() and image.mask is None
    for encoded, name in ((image, "image"), (text, "text")):
        normalised = nn.functional.normalize(encoded.vector, dim=-1)
        torch.testing.assert_close(normalised, arrays(f"{mode}_{name}_feat", "network"), rtol=0, atol=1e-5)


@pytest.mark.parametrize("mode", NETWORK_PRESETS)
def test_gradients_are_the_published_ones(mode):
    network, batch = golden_network(mode), golden_batch()
    features = network(**batch["net_input"], images=batch["image_features"])
    loss = contrastive_loss(
        features["text"], features["image"], network.temperature, batch["image_ids"], positives="diagonal"
    )
    (loss / len(batch["image_ids"])).backward()
    assert loss.item() / len(batch["image_ids"]) == pytest.approx(NETWORK["modes"][mode]["loss"], rel=1e-5)
    expected = first_gradients(network, mode)
    trained = {name: parameter.grad for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert trained.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(trained[name], gradient, rtol=1e-4, atol=1e-4, msg=name)


def test_the_adapter_is_the_published_one():
    golden = {name: torch.tensor(value) for name, value in NETWORK["adapter"].items()}
    adapter = LayerwiseAdapter(10, 4)
    weights = {"down_sampler": "down", "up_sampler": "up"}
    adapter.load_state_dict({
        f"{layer}.{kind}": golden[f"{name}_{kind[0]}"] for layer, name in weights.items() for kind in ("weight", "bias")
    })  # fmt: skip
    assert adapter.down_sampler.out_features == golden["down_sample_size"]
    torch.testing.assert_close(adapter(golden["x"]), golden["y"], rtol=0, atol=1e-6)


class GivenStates(nn.Module):
    """A text tower that gives what stands in its "tokens"."""

    width, max_length, vocab_size = 6, 9, 0

    def forward(self, tokens, last, lengths=None):
        return FeaturesConfig(self.width).build()(tokens)


def test_a_clamped_temperature_is_put_back_before_a_training_forward():
    """Loss and its gradients at the published code's six temperatures, three of them outside the bounds."""
    image, text = torch.tensor(LOSS["image"]), torch.tensor(LOSS["text"])
    tower = GivenStates()
    tower.width = text.shape[-1]
    network = DualEncoderNetwork(FeaturesConfig(image.shape[-1]).build(), tower, 4)
    for side in ("vision", "text"):
        for kind in ("weight", "bias"):
            getattr(getattr(network, f"{side}_proj"), kind).data = torch.tensor(LOSS[f"{side}_proj_{kind}"])
    clamped = 0
    for case in LOSS["cases"]:
        network.temp.data.fill_(case["temp_in"])
        assert network.eval().temperature.item() == pytest.approx(case["temp_after_clamp"])
        assert float(network.temp) == pytest.approx(case["temp_in"])
        features = network.train()(text, torch.zeros(len(text), dtype=torch.int64), image)
        assert float(network.temp) == pytest.approx(case["temp_after_clamp"])
        clamped += case["temp_in"] != pytest.approx(case["temp_after_clamp"])
        ids = torch.arange(len(text))
        loss = contrastive_loss(features["text"], features["image"], network.temperature, ids, positives="diagonal")
        network.zero_grad()
        (loss / len(text)).backward()
        tolerance = 1e-3 if case["temp_after_clamp"] < 0.002 else 1e-5
        assert loss.item() / len(text) == pytest.approx(case["loss"], rel=tolerance)
        assert float(network.temp.grad) == pytest.approx(case["grad_temp"], rel=tolerance)
    assert clamped == 3


def new_network(**options):
    text = BertConfig(20, 16, 2, 2, max_positions=9, dropout=0.5, attention_dropout=0.5)
    return DualEncoderNetwork(ViTConfig(16, 8, 12, 2, 3).build(), text.build(), 8, **options)


def test_the_temperature_can_be_a_log_scale_as_in_clip():
    network = new_network(log_scale=True)
    names = [name for name, _ in network.named_parameters()]
    assert "logit_scale" in names and "temp" not in names
    assert float(network.temperature) == pytest.approx(0.07)
    network.logit_scale.data.fill_(9.0)
    assert float(network.temperature) == pytest.approx(0.01)


def text_of(network):
    return network.encode_text(torch.tensor([[2, 5, 6, 3]]), torch.tensor([3]))


@pytest.mark.parametrize("rules, varies", [
    (["-^text_encoder"], False),
    (["-^text_encoder", r"+layer\.1\.output"], True),
    ([], True),
])  # fmt: skip
def test_dropout_is_off_in_frozen_parts(rules, varies):
    network = new_network()
    freeze_parameters(network, rules, "rules")
    network.train()
    assert (not torch.equal(text_of(network).vector, text_of(network).vector)) == varies
    assert not network.text_encoder.training if len(rules) == 1 else network.text_encoder.training
    frozen = network.text_encoder.encoder.layer[0]
    assert all(part.training != bool(rules) for part in frozen.modules())


def test_dropout_of_frozen_parts_can_stay_on_as_published():
    network = new_network(frozen_dropout=True)
    freeze_parameters(network, ["-^text_encoder"], "rules")
    network.train()
    assert not torch.equal(text_of(network).vector, text_of(network).vector)


def test_a_frozen_tower_keeps_no_graph():
    network = new_network()
    freeze_parameters(network, ["-^visual_encoder"], "rules")
    network.keep_states()
    image = network.encode_image(torch.zeros(1, 3, 16, 16))
    assert not image.states.requires_grad and image.vector.requires_grad
    assert text_of(network).states.requires_grad


def test_given_features_go_through_the_projection():
    network = DualEncoderNetwork(FeaturesConfig(5).build(), BertConfig(20, 16, 1, 2, max_positions=9).build(), 8)
    features = torch.randn(3, 5)
    assert network.preprocess is None and network.feature_dim == 5
    torch.testing.assert_close(network.encode_features(features).vector, network.vision_proj(features))
    own = torch.randn(3, 8)
    assert new_network().feature_dim == 8 and torch.equal(new_network().encode_features(own).vector, own)


def test_numbers_of_each_stage_are_options():
    options = {"image_tower": "swin_tiny", "image_size": 32, "image_width": 4, "image_window": 2}
    options.update(image_stage_layers="1,2", image_stage_heads="2,4", text_tower="bert_tiny")
    config = TowerConfigs.of_options(SimpleNamespace(**options)).image
    assert (config.layers, config.heads, config.window) == ((1, 2), (2, 4), 2)
    assert stage_numbers(config.layers) == "1,2"
    for wrong in ("1,,2", "one", "", "1.5,2", "12345"):
        with pytest.raises(UserError, match=f"--image-stage-layers {wrong}: give a number for each stage"):
            TowerConfigs.of_options(SimpleNamespace(**{**options, "image_stage_layers": wrong}))
    with pytest.raises(UserError, match="--image-tower vit_tiny has no --image-stage-layers"):
        TowerConfigs.of_options(SimpleNamespace(image_tower="vit_tiny", image_stage_layers="1", text_tower="bert_tiny"))
