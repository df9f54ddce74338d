"""A CCLM against the published code's numbers: activations, negatives, texts that are read by themselves, and counts.
Losses and gradients: ``criterions/test_cclm_criterion.py``."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden import FIXTURES, assert_golden, load_golden
from golden_cclm import GRADIENTS, STEPS, arrays, draw_likeliest, golden_batch, golden_network, our_name

from mlvl_fairseq.checkpoints.check import without_values
from mlvl_fairseq.models.cclm import CclmConfig, CclmModel
from mlvl_fairseq.modules.heads import MlpHead
from mlvl_fairseq.networks.cclm import ARCHITECTURES, CclmTowerOptions, FusionOptions
from mlvl_fairseq.networks.dual_encoder import TowerConfigs
from mlvl_fairseq.networks.freezing import Counts

TABLE = load_golden("cclm_network")
COUNTS = TABLE["counts"]
TEXT, VIEW = arrays("text_atts").bool(), arrays("text_atts_2").bool()


def activations(name):
    with np.load(FIXTURES / "golden_cclm_network.npz") as file:
        return torch.from_numpy(file[name])


def assert_near(found, name, where=...):
    """Like some of the published activations."""
    expected = activations(name)[where]
    found = found if found.shape == expected.shape else found[where]
    torch.testing.assert_close(found, expected, rtol=2e-5, atol=5e-6, msg=lambda error: f"{name}: {error}")


@pytest.fixture(scope="module")
def network():
    return golden_network()


@torch.no_grad()
def test_both_views_and_what_is_read_beside_them(network):
    batch = golden_batch("image_two_captions")["net_input"]
    text = network.encode_text(batch["tokens"], batch["eos_positions"])
    other = network.encode_text(batch["second_tokens"], batch["second_eos_positions"])
    image, every = network.encode_image(batch["images"]), torch.arange(TEXT.shape[1]).expand(len(TEXT), -1)
    assert torch.equal(text.mask, TEXT) and torch.equal(other.mask, VIEW)
    assert_near(text.states, "text_embeds", TEXT)
    assert_near(other.states, "text_embeds_2", VIEW)
    assert_near(image.states, "image_embeds")
    assert_near(F.normalize(text.vector, dim=-1), "text_feat")
    assert_near(F.normalize(image.vector, dim=-1), "image_feat")
    views = network.image_keys_values(image)
    assert_near(network.fuse(text, views, every), "cross_embeds", TEXT)
    assert_near(network.fuse(text, views)[:, 0], "cross_embeds", (slice(None), 0))
    assert_near(network.match(image, text), "itm_logits", (slice(None), 1))
    views = network.fusion.keys_values(other.states, other.mask)
    assert_near(network.fuse(text, views, every), "para_cross_embeds", TEXT)


@torch.no_grad()
def test_regions_have_the_published_states_and_boxes(network, monkeypatch):
    draw_likeliest(monkeypatch)
    inputs = golden_batch("region")["net_input"]
    view, whole = network.encode_regions(inputs["images"], inputs["image_of"], inputs["patches"])
    assert_near(view.states, "region_embeds")
    assert_near(whole.states[inputs["image_of"]], "region_full_embeds")
    assert torch.equal(view.mask, arrays("region_image_atts").bool())
    assert_near(network(**inputs)["boxes"], "bbox")


@torch.no_grad()
def test_masked_words_have_the_published_logits(network, monkeypatch):
    draw_likeliest(monkeypatch)
    masked = network(**golden_batch("image")["net_input"])["masked"]
    assert_near(network.lm_head(masked, network.text_encoder.embeddings.word_embeddings.weight), "mlm_logits")


@torch.no_grad()
@pytest.mark.parametrize("step", TABLE["negative_weights"])
def test_negatives_are_drawn_by_the_published_weights(network, monkeypatch, step):
    given = draw_likeliest(monkeypatch)
    found = network(**golden_batch(step)["net_input"])
    assert_golden(torch.cat(given), TABLE["negative_weights"][step])
    assert found["drawn"].all() and found["matching"].shape == (12, 2)


def test_two_texts_read_as_one(network, monkeypatch):
    """Translation language modelling; the published numbers are of one text in the place of two."""
    golden, batch = STEPS["para_text_tlm"], golden_batch("para_text")
    inputs = {**batch["net_input"], "masked_eos_positions": batch["net_input"]["view_eos_positions"]}
    found = network(**inputs)
    assert found.keys() == {"text", "image", "masked"}
    asked, words = batch["masked_ids"] >= 0, network.text_encoder.embeddings.word_embeddings.weight
    masked_lm = F.cross_entropy(network.lm_head(found["masked"][asked], words), batch["masked_ids"][asked])
    assert_golden(masked_lm, golden["losses"]["loss_mlm"])
    text, view = (F.normalize(found[name].double(), dim=-1) for name in ("text", "image"))
    similarity, own = view @ text.t() / network.temperature, torch.arange(len(text))
    contrast = (F.cross_entropy(similarity, own) + F.cross_entropy(similarity.t(), own)) / 2
    network.zero_grad()
    (masked_lm + contrast).backward()
    parameters = {name: parameter.grad for name, parameter in network.named_parameters()}
    for name, norm in zip(GRADIENTS, golden["grad_norms"], strict=True):
        gradient = parameters[our_name(name)]
        assert_golden(0.0 if gradient is None else gradient.norm(), norm, rtol=1e-4, atol=2e-6, msg=name)
        if ".crossattention." in name:
            assert gradient is None, name


def count(module):
    return Counts.of(module).total


@pytest.mark.parametrize("arch", ["cclm", "cclm_base"])
def test_parameters_are_as_many_as_published(arch):
    config = CclmConfig(**ARCHITECTURES.get(arch, {}))
    network = without_values(CclmModel.of_options, config, TowerConfigs.of_options(config))
    text, fusion = network.text_encoder, network.fusion
    assert {
        "vision_encoder": count(network.visual_encoder),
        "text_encoder_all": count(text) + count(fusion),
        "embeddings": count(text.embeddings),
        "text_layer": count(text.encoder.layer[0]),
        "fusion_layer": count(fusion.layer[0]),
        "cross_attention_block": count(fusion.layer[0].crossattention),
        "text_6_layers": count(text.encoder),
        "fusion_6_layers": count(fusion),
        "lm_head_without_tied_matrix": count(network.lm_head),
        "text_proj": count(network.text_proj),
        "vision_proj": count(network.vision_proj),
        "itm_head": count(network.itm_head),
        "bbox_head": count(network.bbox_head),
        "temp": network.temp.numel(),
        "total_pretraining_model": CclmModel.count(config).total,
        "total_retrieval_model": CclmModel.count(CclmConfig(**{**vars(config), "heads": "matching"})).total,
        # neither projections nor a temperature, and three classes
        "total_xvnli_model": sum(map(count, (network.visual_encoder, text, fusion, MlpHead(text.width, 3)))),
    } == COUNTS


def test_options_without_an_architecture_are_those_of_the_paper():
    assert (CclmTowerOptions().image_tower, CclmTowerOptions().text_tower) == ("swin_base", "cclm_xlmr_large")
    assert (CclmTowerOptions().embed_dim, FusionOptions().fusion_layers, FusionOptions().negatives) == (256, 6, "local")
