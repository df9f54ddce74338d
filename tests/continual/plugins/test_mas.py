"""Memory aware synapses against the gradient of the features' norm, worked out by hand in float64."""

import numpy as np
import torch
from golden import det
from toy_learner import TEXTS, ToyModel, ToyTask, options, through_a_checkpoint, toy_batch

from mlvl_fairseq.continual.plugins.mas import Mas, MasOptions

BATCHES = [toy_batch(TEXTS[:4]), toy_batch(TEXTS[4:])]


def mas(position):
    task = ToyTask(position, BATCHES)
    return Mas(options(MasOptions, mas_scale=3.0), task), task


def absolute_gradients(tokens, embedding, head):
    """float64: |gradient of the captions' mean ``||head @ m||^2``| with m the mean of two words."""
    embedding_gradient, head_gradient = np.zeros_like(embedding), np.zeros_like(head)
    for words in tokens:
        mean = embedding[words].mean(axis=0)
        head_gradient += 2 * np.outer(head @ mean, mean) / len(tokens)
        for word in words:
            embedding_gradient[word] += 2 * head.T @ head @ mean / len(words) / len(tokens)
    return abs(embedding_gradient), abs(head_gradient)


def expected(model):
    embedding, head = model.embedding.detach().double().numpy(), model.head.detach().double().numpy()
    batches = [absolute_gradients(batch["net_input"]["tokens"].numpy(), embedding, head) for batch in BATCHES]
    return [np.mean(parts, axis=0) for parts in zip(*batches)]


def check(plugin, importance):
    for name, values in zip(("embedding", "head"), importance):
        np.testing.assert_allclose(plugin.get("importance", name), values, rtol=2e-5, atol=1e-7)


def test_importance_adds_up_over_languages():
    model = ToyModel(det((4, 3), 0.5, 0.6), det((5, 3), 0.5, 0.7))
    first = expected(model)
    plugin, task = mas(1)
    plugin = through_a_checkpoint(mas(0)[0], plugin, task, model)
    check(plugin, first)
    with torch.no_grad():
        model.head += det((5, 3), 0.1, 0.3)
    following, task = mas(2)
    check(through_a_checkpoint(plugin, following, task, model), [a + b for a, b in zip(first, expected(model))])


def test_penalty_pulls_what_moves_features_back():
    model = ToyModel(det((4, 3), 0.5, 0.6), det((5, 3), 0.5, 0.7))
    plugin, task = mas(1)
    plugin.begin_language(task, model)
    importance = expected(model)
    with torch.no_grad():
        model.embedding += 0.5
    scale, penalty = plugin.losses(model, {}, {})["mas"]
    np.testing.assert_allclose(penalty.item(), 0.25 * importance[0].sum(), rtol=1e-5)
    gradient = torch.autograd.grad(penalty, model.embedding)[0]
    np.testing.assert_allclose(gradient, importance[0], rtol=2e-5, atol=1e-7)
    assert scale == 3 and task.asked[0][0] == 128 and len(task.asked[0][1]) == 6


def test_of_a_half_precision_model_importance_and_anchor_are_float32():
    model = ToyModel(det((4, 3), 0.5, 0.6), det((5, 3), 0.5, 0.7))
    exact = expected(model)
    model.bfloat16()
    plugin, task = mas(1)
    plugin.begin_language(task, model)
    assert {buffer.dtype for buffer in plugin.buffers()} == {torch.float32}
    for name, values in zip(("embedding", "head"), exact):
        np.testing.assert_allclose(plugin.get("importance", name), values, rtol=0.1, atol=0.02)
    penalty = plugin.losses(model, {}, {})["mas"][1]
    assert penalty == 0 and penalty.dtype == torch.float32
