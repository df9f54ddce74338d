"""DualPrompt and CODA-Prompt: which prompts are chosen, and what becomes of those of other languages."""

import copy
import logging

import pytest
import torch

from mlvl_fairseq.modules.adapters import TowerShape, build_adapter
from mlvl_fairseq.modules.adapters.coda_prompt import attended_cosine
from mlvl_fairseq.modules.adapters.prompts import published_visibility


def layers_of(depth, **options):
    shape = TowerShape(width=8, layers=depth, embed_dim=8)
    adapter = build_adapter("dual_prompt", type("Given", (), options), shape, ["en"])
    return adapter.g_layers, adapter.e_layers


@pytest.mark.parametrize(
    "depth, shared, own", [(1, [], [0]), (2, [0], [1]), (4, [0, 1], [2, 3]), (12, [0, 1], [2, 3, 4])]
)
def test_layers_of_dual_prompts_follow_the_tower_s_depth(depth, shared, own):
    assert layers_of(depth) == (shared, own)


def test_given_layers():
    assert layers_of(4, dual_g_layers="3", dual_e_layers="0,1") == ([3], [0, 1])


def test_the_nearest_key_wins_at_test_time_only(new_adapter):
    adapter = new_adapter("dual_prompt", ["en", "de", "fr"])
    query = torch.stack([2 * part.keys[0].detach() for part in adapter.parts])
    prompts, loss = adapter.prompts(query)
    own = [part.prompts.detach() for part in adapter.parts]
    assert torch.equal(prompts[2], torch.stack([own[i][0] for i in range(3)])) and loss is None
    for i, layer in enumerate(adapter.e_layers):
        cosine = torch.nn.functional.cosine_similarity(
            query[:, None].double(), torch.stack([part.keys[i] for part in adapter.parts]).double(), dim=-1
        )
        assert torch.equal(prompts[layer], torch.stack([own[choice][i] for choice in cosine.argmax(1)]))
    prompts, loss = adapter.train().prompts(query)
    assert all(torch.equal(prompts[layer], own[2][i][None]) for i, layer in enumerate(adapter.e_layers))
    assert loss > 0


@pytest.mark.parametrize("depth, number", [(0, 3), (4, 2)])
def test_pull_loss(new_adapter, depth, number):
    """Divided by the number of E-layers, also by those that the published code does not get to."""
    adapter = new_adapter("dual_prompt", ["en", "de"], dual_depth=depth, dual_pull=0.5).train()
    query = torch.randn(7, 12, generator=torch.Generator().manual_seed(2))
    prompts, loss = adapter.prompts(query)
    assert sorted(prompts) == list(range(2 + number))
    cosine = torch.nn.functional.cosine_similarity(query[:, None].double(), adapter.parts[1].keys.double(), dim=-1)
    expected = 0.5 * (1 - cosine[:, :number]).mean(0).sum() / 3
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-7)


def test_published_dual_prompts_of_other_languages_stay_in_the_optimizer_s_hands(new_adapter):
    """Their gradient is 0, so that weight decay alone moves them."""
    adapter = new_adapter("dual_prompt", ["en", "de"], dual_past="decay", dual_pool=4).train()
    prompts, loss = adapter.prompts(torch.randn(3, 12))
    (loss + sum(prompt.square().sum() for prompt in prompts.values())).backward()
    for i, part in enumerate(adapter.parts):
        for parameter in part.parameters():
            assert parameter.requires_grad and bool(parameter.grad.any()) == (i == 1)


def test_published_components_do_not_train(new_adapter):
    assert not any(p.requires_grad for p in new_adapter("coda_prompt", ["en", "de"], coda_train="none").parameters())


def test_components_are_weighted_by_cosines():
    generator = torch.Generator().manual_seed(0)
    query, attention, keys = (torch.randn(n, 6, generator=generator, dtype=torch.float64) for n in (4, 5, 5))
    expected = torch.nn.functional.cosine_similarity(query[:, None] * attention, keys, dim=-1)
    ours = attended_cosine(query.float(), attention.float(), keys.float())
    torch.testing.assert_close(ours.double(), expected, rtol=1e-5, atol=1e-6)


def rows_of(part, name, layer):
    return getattr(part, name)[layer].detach().double().flatten(1)


def begin(kind, languages, state, seed, shape, **options):
    """The adapter of the next language, begun from the state of the one before."""
    adapter = build_adapter(kind, type("Given", (), options), shape, languages, seed)
    if state:
        adapter.hand_over(state, "")
        adapter.load_state_dict(state)
    return adapter


def test_new_components_are_orthonormal_to_all_earlier_ones():
    shape, state, languages = TowerShape(width=16, layers=2, embed_dim=20), {}, []
    for position in range(4):
        languages.append(f"l{position}")
        adapter = begin("coda_prompt", languages, state, position, shape)
        with torch.no_grad():  # training makes earlier ones anything
            for parameter in adapter.parts[position].parameters():
                parameter += (0.1 * torch.randn_like(parameter)) if position < 3 else 0
        state = dict(adapter.state_dict())
    for name in ("prompts", "keys", "attention"):
        for layer in range(2):
            new = rows_of(adapter.parts[3], name, layer)
            torch.testing.assert_close(new @ new.T, torch.eye(5, dtype=torch.float64), rtol=0, atol=1e-6)
            for part in adapter.parts[:3]:
                assert (rows_of(part, name, layer) @ new.T).abs().max() < 1e-5


def test_more_components_than_dimensions_are_orthonormal_among_themselves(caplog):
    shape, state, languages = TowerShape(width=16, layers=1, embed_dim=12), {}, []
    with caplog.at_level(logging.WARNING):
        for position in range(4):
            languages.append(f"l{position}")
            adapter = begin("coda_prompt", languages, state, position, shape)
            state = dict(adapter.state_dict())
    new = rows_of(adapter.parts[3], "keys", 0)
    torch.testing.assert_close(new @ new.T, torch.eye(5, dtype=torch.float64), rtol=0, atol=1e-6)
    assert "not orthogonal to earlier ones: 12 dimensions are few" in caplog.text


def test_published_mask_meets_the_wrong_keys():
    """Two prompts, captions of 4 and 2 tokens in a batch of 4: the mask's zeros fall on the short one's last token."""
    seen = published_visibility(torch.tensor([3, 1]), 4, 2).int().tolist()
    #           prompts  tokens
    assert seen[0] == [1, 1, 1, 1, 1, 1]
    assert seen[1] == [1, 1, 0, 0, 1, 1]


@pytest.mark.parametrize("kind", ["dual_prompt", "coda_prompt"])
def test_the_query_is_computed_without_gradient(new_adapter, tower, kind):
    """The tower's first pass asks which prompts to take; only its second one, with them, is learned from."""
    adapter, queries = new_adapter(kind, ["en", "de"]).train(), []
    prompts = adapter.prompts
    adapter.prompts = lambda query: queries.append(query) or prompts(query)
    tokens = torch.tensor([[1, 2, 3], [4, 5, 6]])
    tower = copy.deepcopy(tower).requires_grad_()
    weight = tower.token_embedding.weight
    adapted = adapter(tower, tokens, torch.tensor([2, 2]))
    (query,) = queries
    assert not query.requires_grad and query.grad_fn is None
    torch.testing.assert_close(query, tower(tokens, torch.tensor([2, 2])).detach())
    assert adapted.features.requires_grad
    if kind == "dual_prompt":  # its loss pulls the key to the query, not the tower to the key
        assert torch.autograd.grad(adapted.auxiliary_loss, weight, allow_unused=True, retain_graph=True) == (None,)
