"""Learning without forgetting: the previous model's features, and that a restart keeps that model."""

import numpy as np
import pytest
import torch
from golden import det
from toy_learner import TEXTS, ToyModel, ToyTask, options, restarted, through_a_checkpoint, toy_batch

from mlvl_fairseq.continual.plugins.lwf import Lwf, LwfOptions


def lwf():
    return Lwf(options(LwfOptions, lwf_scale=0.5), ToyTask())


def features64(model, tokens):
    embedding, head = model.embedding.detach().double().numpy(), model.head.detach().double().numpy()
    return embedding[tokens.numpy()].mean(axis=1) @ head.T


def term(plugin, model, sample):
    return plugin.losses(model, model(**sample["net_input"]), sample)["lwf"]


@pytest.fixture
def learned():
    """Plugin and model in the second language after the model has moved, and the features of before."""
    model = ToyModel(det((4, 3), 0.5, 0.6), det((5, 3), 0.5, 0.7))
    plugin = through_a_checkpoint(lwf(), lwf(), ToyTask(1), model)
    before = features64(model, TEXTS)
    with torch.no_grad():
        model.embedding += det((4, 3), 0.2, 0.1)
        model.head += det((5, 3), 0.2, 0.4)
    return plugin, model, before


def test_the_first_language_has_nothing_to_keep():
    plugin, model = lwf(), ToyModel(det((4, 3), 1, 0), det((5, 3), 1, 0))
    plugin.begin_run(ToyTask(), model)
    assert plugin.losses(model, model(TEXTS), toy_batch()) == {}


def test_loss_equals_its_definition_and_moves_only_the_model_of_now(learned):
    plugin, model, before = learned
    scale, loss = term(plugin, model, toy_batch())
    assert scale == 0.5
    np.testing.assert_allclose(loss.item(), ((features64(model, TEXTS) - before) ** 2).mean(), rtol=2e-5)
    loss.backward()
    moved = torch.tensor(features64(model, TEXTS) - before)
    means = model.embedding.detach().double()[TEXTS].mean(dim=1)
    torch.testing.assert_close(model.head.grad.double(), 2 * moved.T @ means / moved.numel(), rtol=2e-5, atol=1e-8)
    assert all(not buffer.requires_grad for buffer in plugin.buffers())


def test_replayed_rows_do_not_count(learned):
    plugin, model, before = learned
    loss = term(plugin, model, toy_batch(TEXTS[:4]) | {"memory": {"replay": toy_batch(TEXTS[4:])}})[1]
    np.testing.assert_allclose(loss.item(), ((features64(model, TEXTS) - before)[:4] ** 2).mean(), rtol=2e-5)


def test_a_restart_keeps_the_previous_model(learned):
    plugin, model, _ = learned
    again = restarted(plugin, lwf(), ToyTask(1), model)
    assert torch.equal(term(again, model, toy_batch())[1], term(plugin, model, toy_batch())[1])
    assert again.state_dict().keys() == {"head", "embedding"}


def test_the_next_language_remembers_the_last_model_only(learned):
    plugin, model, _ = learned
    grown = ToyModel(torch.cat([model.embedding.detach(), det((2, 3), 1, 1)]), model.head.detach())
    following = through_a_checkpoint(plugin, lwf(), ToyTask(2), grown)
    assert term(following, grown, toy_batch())[1] == 0
    assert following.state_dict()["embedding"].shape == (6, 3)
    grown.head.requires_grad = False
    assert through_a_checkpoint(following, lwf(), ToyTask(3), grown).state_dict().keys() == {"embedding"}


def test_frozen_parts_and_adapters_are_not_copied():
    model = ToyModel(det((4, 3), 1, 0), det((5, 3), 1, 0))
    model.head.requires_grad = False
    model.adapter = torch.nn.Linear(2, 2)
    plugin = lwf()
    plugin.begin_language(ToyTask(1), model)
    assert plugin.state_dict().keys() == {"embedding"}
