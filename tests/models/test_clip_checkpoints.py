"""What a checkpoint of a continual learner holds, and what happens to it on its way into the next language."""

import copy

import numpy as np
import pytest
import torch

from mlvl_fairseq.continual.learner import LanguageState
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.modules.expandable_embedding import GrowthOptions, grow_rows

CLIP_SIZE = 60
TEIR = GrowthOptions(std=-1, seed=3)
EMBEDDING = "text.token_embedding.weight"
HELD = {EMBEDDING, "frozen_fingerprint"}
COUNTS = ("token_frequencies", "earlier_share", "current_tokens", "current_share")
STATE = {f"language_state.{name}" for name in ("position", *COUNTS, "vocabulary_fingerprint")}


def names(size):
    return [f"token-{i}" for i in range(size)]


@pytest.fixture
def learner(language_model):
    """``learner(position, size)``: the model of the language at this position, before a checkpoint is loaded."""

    def build(position, size, tokens=None, current=(0,), growth=TEIR, **options):
        model = language_model(size, **options)
        counts = np.zeros((1, size), np.int64)
        counts[0, list(current)] = 1
        state = LanguageState(tokens or names(size), CLIP_SIZE, position, counts, np.zeros(size, np.int64))
        model.begin_language(state, growth, torch.nn.ModuleDict())
        return model

    return build


def checkpoint(model):
    """What is in the file that training wrote, after the embedding has moved."""
    with torch.no_grad():
        model.text.token_embedding.weight += 0.01 * torch.randn(model.text.token_embedding.weight.shape)
    return copy.deepcopy(dict(model.state_dict()))


def embedding(model):
    return model.text.token_embedding.weight.detach()


def test_checkpoints_hold_what_was_trained_and_a_fingerprint_of_the_rest(learner, new_model):
    assert learner(0, 65).state_dict().keys() == HELD | STATE
    whole = new_model(with_images=True)  # nothing frozen, nothing left out
    assert whole.state_dict().keys() == dict(whole.named_parameters()).keys()


def test_frozen_parts_of_unnamed_origin_are_kept(new_model):
    model = new_model(with_images=True, freeze="^vision")  # random weights: no file to take them from again
    assert model.state_dict().keys() == dict(model.named_parameters()).keys()


def test_resuming_brings_back_every_number(learner):
    first, second = learner(1, 65), learner(1, 65)
    state = checkpoint(first)
    second.load_state_dict(state)
    assert second.has_learned and not first.has_learned
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name
    tokens, ends = torch.tensor([[1, 64, 59]]), torch.tensor([2])
    assert torch.equal(first(tokens, ends)["text"], second(tokens, ends)["text"])
    frequencies = second.language_state.token_frequencies
    assert frequencies[0] == 2 and frequencies[64] == 1  # nothing was counted again


def test_handover_grows_the_embedding_and_counts(learner):
    state = checkpoint(learner(0, 65, current=[0, 3, 64]))
    learned = state[EMBEDDING].clone()
    model = learner(1, 70, current=[3, 69])
    model.load_state_dict(state)
    assert torch.equal(embedding(model), grow_rows(learned, 70, 0, -1, seed=3))
    assert torch.equal(embedding(model)[:65], learned)
    frequencies = model.language_state.token_frequencies.tolist()
    assert [frequencies[token] for token in (0, 1, 3, 60, 64, 69)] == [3, 2, 3, 1, 2, 1]
    assert model.language_state.current_tokens.nonzero().squeeze(1).tolist() == [3, 69]
    assert int(model.language_state.position) == 1 and model.has_learned


def test_a_chain_of_handovers_counts_every_language(learner):
    state = None
    for position, (size, current) in enumerate([(62, [0, 61]), (66, [0, 61, 65]), (66, [0])]):
        model = learner(position, size, current=current)
        if state is not None:
            model.load_state_dict(state)
        state = checkpoint(model)
    frequencies = state["language_state.token_frequencies"]
    assert frequencies[[0, 1, 61, 65]].tolist() == [4, 2, 3, 2]


def test_inside_another_module_names_have_its_prefix(learner):
    """As in data-parallel wrappers."""
    state = {f"module.{name}": tensor for name, tensor in checkpoint(learner(0, 65)).items()}
    wrapper = torch.nn.Module()
    wrapper.module = learner(1, 70)
    assert wrapper.state_dict().keys() == state.keys()
    wrapper.module.upgrade_state_dict_named(state, "module")
    assert len(state["module." + EMBEDDING]) == 70
    wrapper.load_state_dict(state)
    assert torch.equal(embedding(wrapper.module), state["module." + EMBEDDING])


@pytest.mark.parametrize("options", [{"seed": 1}, {"freeze": r"^text\.transformer"}], ids=["weights", "pattern"])
def test_other_frozen_weights_are_refused(learner, options):
    state = checkpoint(learner(0, 65))
    with pytest.raises(UserError, match="other frozen weights than --init-from holds, or with another --freeze"):
        learner(1, 70, **options).load_state_dict(state)


def test_a_checkpoint_without_fingerprint_is_refused(learner, new_model):
    with pytest.raises(UserError, match="other frozen weights"):
        learner(0, CLIP_SIZE).load_state_dict(new_model().state_dict())


def test_frozen_weights_must_be_given(learner, new_model):
    with pytest.raises(UserError, match="leaves out frozen weights: say with --init-from where they are"):
        new_model(vocab_size=65).load_state_dict(checkpoint(learner(0, 65)))


def test_a_checkpoint_of_no_sequence_is_refused(learner, language_model):
    with pytest.raises(UserError, match="has not learned any language; start from it with --init-from"):
        learner(1, 70).load_state_dict(checkpoint(language_model()))


def test_another_place_in_the_sequence_is_refused(learner):
    with pytest.raises(UserError, match=r"has learned 1 language\(s\); this run needs one that has learned 2"):
        learner(2, 70).load_state_dict(checkpoint(learner(0, 65)))


def test_another_vocabulary_is_refused(learner):
    other = [*names(64), "another"]
    with pytest.raises(UserError, match="vocabulary does not fit"):
        learner(1, 70).load_state_dict(checkpoint(learner(0, 65, tokens=other)))


def test_a_refused_checkpoint_changes_nothing(learner):
    model = learner(2, 70)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(UserError):
        model.load_state_dict(checkpoint(learner(0, 65)))
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in before.items())
    assert not model.has_learned
