"""What every kind of adapter promises: sizes, which numbers train, independence of the batch, languages."""

import logging

import pytest
import torch

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.modules import length_groups
from mlvl_fairseq.modules.adapters import ADAPTERS, TowerShape, build_adapter

KINDS = sorted(ADAPTERS)
OF_LANGUAGES = ["bottleneck", "lora", "prefix"]
VIT_B = TowerShape(width=512, layers=12, embed_dim=512)


def trained(adapter):
    return {name for name, parameter in adapter.named_parameters() if parameter.requires_grad}


def size(parameters):
    return sum(parameter.numel() for parameter in parameters)


def test_kinds():
    assert {"bottleneck", "coda_prompt", "dual_prompt", "lora", "prefix"} <= ADAPTERS.keys()


@pytest.mark.parametrize("kind, number", [("bottleneck", 3_154_944), ("prefix", 6_581_760), ("lora", 196_608)])
def test_published_sizes_of_a_language(kind, number):
    adapter = build_adapter(kind, None, VIT_B, ["en", "de"])
    assert size(p for p in adapter.parameters() if p.requires_grad) == size(adapter.parts[1].parameters()) == number


@pytest.mark.parametrize("kind, number", [("dual_prompt", 942_080), ("coda_prompt", 1_843_200)])
def test_published_sizes_of_36_languages(kind, number):
    assert size(build_adapter(kind, None, VIT_B, [f"l{i}" for i in range(36)]).parameters()) == number


def test_the_published_pool_is_drawn_ahead(new_adapter):
    adapter = new_adapter("dual_prompt", ["en"], dual_pool=36)
    assert len(adapter.parts) == 36 and all(bool(part.keys.any()) for part in adapter.parts)
    assert not torch.equal(adapter.parts[4].keys, adapter.parts[5].keys)
    assert len(new_adapter("dual_prompt", [f"l{i}" for i in range(3)], dual_pool=2).parts) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_current_language_trains(new_adapter, tower, captions, kind):
    """... and what all share; every one of these numbers has a gradient."""
    adapter = new_adapter(kind, ["en", "de", "fr"]).train()
    names = trained(adapter)
    assert names == {name for name, _ in adapter.named_parameters() if name.startswith(("parts.2.", "shared"))}
    adapted = adapter(tower, *captions(), "fr")
    (adapted.features.square().sum() + (adapted.auxiliary_loss or 0)).backward()
    assert all(parameter.grad is None for name, parameter in adapter.named_parameters() if name not in names)
    gradients = {name: parameter.grad for name, parameter in adapter.named_parameters() if name in names}
    assert all(gradient is not None and gradient.any() for gradient in gradients.values())
    assert all(parameter.grad is None for parameter in tower.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_the_tower(new_adapter, tower, captions, kind):
    tokens, ends = captions()
    embedding = tower.token_embedding.weight.requires_grad_()
    try:
        features = new_adapter(kind)(tower, tokens, ends, "en").features
        (gradient,) = torch.autograd.grad(features.square().sum(), embedding)
        (bare,) = torch.autograd.grad(tower(tokens, ends).square().sum(), embedding)
    finally:
        embedding.requires_grad_(False)
    assert gradient.any() and not torch.allclose(gradient, bare, rtol=1e-2)


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_features_follow_from_the_caption_alone(new_adapter, tower, captions, kind, monkeypatch):
    """Not from padding, nor from the other captions, nor from the groups of like length that a CPU works in."""
    adapter, (tokens, ends) = new_adapter(kind, ["en", "de"]), captions(40)
    features = adapter(tower, tokens, ends, "en").features
    assert not torch.allclose(features, tower(tokens, ends), atol=1e-2)
    padded, _ = captions(40, padding=5)
    torch.testing.assert_close(adapter(tower, padded, ends, "en").features, features, rtol=1e-4, atol=1e-5)
    for row in (0, 17, 39):
        alone = adapter(tower, tokens[row : row + 1, : ends[row] + 1], ends[row : row + 1], "en").features[0]
        torch.testing.assert_close(alone, features[row], rtol=1e-4, atol=1e-5)
    monkeypatch.setattr(length_groups, "CALL", 0.0)
    torch.testing.assert_close(adapter(tower, tokens, ends, "en").features, features, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["coda_prompt", "dual_prompt"])
def test_the_published_mask_does_not_depend_on_length_groups(new_adapter, tower, captions, kind, monkeypatch):
    adapter, (tokens, ends) = new_adapter(kind, prompt_mask="published"), captions(40)
    features = adapter(tower, tokens, ends).features
    padded, _ = captions(40, padding=5)
    assert not torch.allclose(adapter(tower, padded, ends).features, features, atol=1e-2)
    monkeypatch.setattr(length_groups, "CALL", 0.0)
    torch.testing.assert_close(adapter(tower, tokens, ends).features, features, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("kind", OF_LANGUAGES)
def test_each_language_has_its_own(new_adapter, tower, captions, kind):
    adapter, (tokens, ends) = new_adapter(kind, ["en", "de"]), captions()
    english, german = (adapter(tower, tokens, ends, lang).features for lang in ("en", "de"))
    assert not torch.allclose(english, german, atol=1e-2)
    for parameter in adapter.parts[1].parameters():
        parameter += 1
    assert torch.equal(adapter(tower, tokens, ends, "en").features, english)
    assert not torch.allclose(adapter(tower, tokens, ends, "de").features, german, atol=1e-2)


@torch.no_grad()
@pytest.mark.parametrize("kind", OF_LANGUAGES)
def test_unknown_languages_go_without_adapter_and_are_named_once(new_adapter, tower, captions, kind, caplog):
    adapter, (tokens, ends) = new_adapter(kind, ["en", "de"]), captions()
    with caplog.at_level(logging.WARNING):
        for lang in ("nl", "nl", None, "de"):
            features = adapter(tower, tokens, ends, lang).features
            assert torch.equal(features, tower(tokens, ends)) == (lang != "de")
    assert [record.getMessage() for record in caplog.records] == [
        "language 'nl' was not learned: captions are encoded without adapter; there are adapters for en, de",
        "no language is given: captions are encoded without adapter; there are adapters for en, de",
    ]


@torch.no_grad()
@pytest.mark.parametrize("kind", ["coda_prompt", "dual_prompt"])
def test_prompts_need_no_language(new_adapter, tower, captions, kind, caplog):
    adapter, (tokens, ends) = new_adapter(kind, ["en", "de"]), captions()
    features = [adapter(tower, tokens, ends, lang).features for lang in ("en", "de", "nl", None)]
    assert all(torch.equal(features[0], other) for other in features[1:]) and not caplog.records


@torch.no_grad()
def test_fresh_adapters(new_adapter, tower, captions):
    """LoRA starts with the bare tower, a bottleneck of small weights near it, the others anywhere."""
    tokens, ends = captions()
    bare = tower(tokens, ends)
    change = {}
    for kind in KINDS:
        change[kind] = (new_adapter(kind, random=False)(tower, tokens, ends, "en").features - bare).norm()
    assert change["lora"] == 0 and 0 < change["bottleneck"] / bare.norm() < 0.05
    assert min(change[kind] for kind in ("prefix", "dual_prompt", "coda_prompt")) > change["bottleneck"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_language_s_draw_follows_its_seed(new_adapter, kind):
    state = torch.get_rng_state()
    adapters = [new_adapter(kind, ["en", "de"], seed, random=False) for seed in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), state)
    new = [list(adapter.parts[1].parameters()) for adapter in adapters]
    first, again, other = (torch.cat([parameter.detach().flatten() for parameter in part]) for part in new)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert not any(parameter.any() for parameter in adapters[0].parts[0].parameters())  # to be loaded


@pytest.mark.parametrize("kind", KINDS)
def test_precisions(new_adapter, tower, captions, kind):
    adapter, (tokens, ends) = new_adapter(kind), captions()
    features = adapter(tower, tokens, ends, "en").features
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = adapter(tower, tokens, ends, "en").features
    assert (low.float() - features).norm() / features.norm() < 0.2  # prompts may be chosen otherwise


@pytest.mark.parametrize("kind, options, message", [
    ("bottleneck", {"bottleneck_reduction": 0}, "--bottleneck-reduction 0 is not between 1 and .* width 16"),
    ("lora", {"lora_rank": 0}, "--lora-rank 0 is less than 1"),
    ("prefix", {"prefix_length": 0}, "--prefix-length 0 and --prefix-hidden 512 must be at least 1"),
    ("dual_prompt", {"dual_e_length": 5}, "--dual-e-length 5 is no even number"),
    ("dual_prompt", {"dual_e_layers": "5,6"}, "--dual-e-layers 5,6: the text tower has the layers 0 to 5"),
    ("dual_prompt", {"dual_e_layers": "1,2"}, "--dual-g-layers and --dual-e-layers name the same layer"),
    ("coda_prompt", {"coda_layers": "1,1"}, "--coda-layers 1,1: .* each can be named once"),
    ("coda_prompt", {"coda_layers": "first"}, "--coda-layers 'first' is no list of layers such as 0,1"),
    ("coda_prompt", {"coda_components": 0}, "--coda-components 0 is less than 1"),
    ("coda_prompt", {"coda_components": 13}, "--coda-components 13 cannot be orthogonal in 12 dimensions"),
    ("hypernetwork", {}, "no adapter 'hypernetwork'; there are: " + ", ".join(ADAPTERS) + "$"),
])  # fmt: skip
def test_options_that_do_not_fit_are_named(new_adapter, kind, options, message):
    with pytest.raises(UserError, match=message):
        new_adapter(kind, **options)
