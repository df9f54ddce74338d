"""From language to language: what was learned stays to the last bit, a new part is drawn, nothing else fits."""

import copy

import pytest
import torch

from mlvl_fairseq.errors import UserError

KINDS = ["bottleneck", "coda_prompt", "dual_prompt", "lora", "prefix"]


def state_of(adapter, prefix="adapter."):
    return {prefix + name: tensor.clone() for name, tensor in adapter.state_dict().items()}


@pytest.fixture
def begin(new_adapter):
    """``begin(kind, languages, state, seed)``: the adapter of the last language, loaded from the one before."""

    def load(kind, languages, state, seed=9, **options):
        adapter = new_adapter(kind, languages, seed, random=False, **options)
        state = copy.deepcopy(state)
        adapter.hand_over(state, "adapter.")
        adapter.check(state, "adapter.")
        adapter.load_state_dict({name.removeprefix("adapter."): tensor for name, tensor in state.items()})
        return adapter

    return load


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_earlier_languages_stay_as_they_are(new_adapter, begin, tower, captions, kind):
    tokens, ends = captions()
    english = new_adapter(kind, ["en"])
    german = begin(kind, ["en", "de"], state_of(english))
    french = begin(kind, ["en", "de", "fr"], state_of(german), seed=10)
    if kind in ("bottleneck", "lora", "prefix"):
        for later in (german, french):
            assert torch.equal(later(tower, tokens, ends, "en").features, english(tower, tokens, ends, "en").features)
    if kind != "prefix":
        for name, parameter in english.named_parameters():
            assert torch.equal(dict(french.named_parameters())[name], parameter), name
    fresh = new_adapter(kind, ["en", "de"], seed=9, random=False)
    if kind != "coda_prompt":  # its draw depends on the components before
        for name, parameter in fresh.parts[1].named_parameters():
            assert torch.equal(dict(german.parts[1].named_parameters())[name], parameter), name
    assert torch.cat([parameter.flatten() for parameter in french.parts[2].parameters()]).any()


def test_a_past_prefix_is_kept_as_its_keys_and_values(new_adapter, begin):
    german = begin("prefix", ["en", "de"], state_of(new_adapter("prefix", ["en"])))
    assert {name: tuple(tensor.shape) for name, tensor in german.parts[0].named_parameters()} == {
        "keys_values": (30, 2 * 6 * 16)
    }


def test_prompts_drawn_ahead_are_taken_as_they_are(new_adapter, begin):
    english = new_adapter("dual_prompt", ["en"], dual_pool=3)
    german = begin("dual_prompt", ["en", "de"], state_of(english), dual_pool=3)
    assert all(torch.equal(german.state_dict()[name], tensor) for name, tensor in english.state_dict().items())


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_language_goes_on(new_adapter, kind):
    adapter, restarted = new_adapter(kind, ["en", "de"]), new_adapter(kind, ["en", "de"], random=False)
    restarted.check(state_of(adapter), "adapter.")
    restarted.load_state_dict(adapter.state_dict())
    assert all(torch.equal(restarted.state_dict()[name], tensor) for name, tensor in adapter.state_dict().items())


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_without_adapter_is_refused(new_adapter, kind):
    with pytest.raises(UserError, match=f"does not fit --adapter {kind} .* has none for the languages it has learned"):
        new_adapter(kind, ["en", "de"]).hand_over({"text.ln_final.weight": torch.ones(2)}, "adapter.")


@pytest.mark.parametrize("kind, other", [
    ("bottleneck", {"bottleneck_reduction": 4}), ("lora", {"lora_rank": 2}), ("prefix", {"prefix_hidden": 8}),
    ("prefix", {"prefix_length": 8}), ("dual_prompt", {"dual_e_layers": "2"}), ("dual_prompt", {"dual_pool": 4}),
    ("coda_prompt", {"coda_components": 4}),
])  # fmt: skip
def test_other_options_are_refused(new_adapter, begin, kind, other):
    with pytest.raises(UserError, match=f"does not fit --adapter {kind} with these options: it differs in"):
        begin(kind, ["en", "de"], state_of(new_adapter(kind, ["en"])), **other)


@pytest.mark.parametrize("kind", KINDS)
def test_another_kind_is_refused(new_adapter, begin, kind):
    other = KINDS[KINDS.index(kind) - 1]
    with pytest.raises(UserError, match=f"does not fit --adapter {kind}"):
        begin(kind, ["en", "de"], state_of(new_adapter(other, ["en"])))
