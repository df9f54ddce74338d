"""Synaptic intelligence against an independent float64 computation of its three equations."""

import numpy as np
import pytest
import torch
from toy_learner import ToyTask, options, restarted, through_a_checkpoint

from mlvl_fairseq.continual.learner import LanguageLearner
from mlvl_fairseq.continual.plugins.si import Si, SiOptions

CURVATURE, RATE, STEPS = np.array([1.0, 0.3, 2.0, 0.0]), 0.1, 6
GOALS = [np.array([1.0, -2.0, 0.5, 3.0]), np.array([-1.0, 0.0, 2.0, 1.0]), np.array([0.0, 1.0, -1.0, 1.0])]
START = np.array([0.2, 0.1, -0.3, 0.7])
SCALE, DAMPING = 0.4, 0.01


class Point(torch.nn.Module):
    language_modules = ()
    shared_parameters = LanguageLearner.shared_parameters

    def __init__(self, values):
        super().__init__()
        self.point = torch.nn.Parameter(torch.tensor(values, dtype=torch.float32))


def si(position):
    return Si(options(SiOptions, si_scale=SCALE, si_damping=DAMPING), ToyTask(position))


def learn(plugin, model, goal, steps):
    """Gradient descent on ``sum curvature (p - goal)^2 / 2`` and the penalty."""
    for _ in range(steps):
        task_loss = (torch.tensor(CURVATURE) * (model.point - torch.tensor(goal)) ** 2).sum() / 2
        terms = plugin.losses(model, {}, {}).values()
        model.point.grad = torch.autograd.grad(task_loss + sum(w * t for w, t in terms), model.point)[0].float()
        plugin.before_step(model)
        with torch.no_grad():
            model.point -= RATE * model.point.grad
        plugin.after_step(model)


def expected(languages):
    """float64: point and importance after these languages, the importance as it is for the next one."""
    point, importance, anchor = START.copy(), np.zeros(4), START.copy()
    for goal in GOALS[:languages]:
        path, begin = np.zeros(4), point.copy()
        for _ in range(STEPS):
            gradient = CURVATURE * (point - goal) + 2 * SCALE * importance * (point - anchor)
            step = -RATE * gradient
            path -= gradient * step
            point = point + step
        importance = importance + np.maximum(path, 0) / ((point - begin) ** 2 + DAMPING)
        anchor = point.copy()
    return point, importance


@pytest.mark.parametrize("restart_after", [0, 3])
def test_three_languages_equal_their_definition(restart_after):
    plugin, model = si(0), Point(START)
    plugin.begin_run(ToyTask(0), model)
    for place, goal in enumerate(GOALS):
        if place:
            plugin = through_a_checkpoint(plugin, si(place), ToyTask(place), model)
            point, importance = expected(place)
            np.testing.assert_allclose(plugin.get("importance", "point"), importance, rtol=1e-5, atol=1e-7)
            np.testing.assert_allclose(plugin.get("anchor", "point"), point, rtol=1e-5)
        learn(plugin, model, goal, restart_after)
        if restart_after:
            plugin = restarted(plugin, si(place), ToyTask(place), model)
        learn(plugin, model, goal, STEPS - restart_after)
    np.testing.assert_allclose(model.point.detach(), expected(3)[0], rtol=1e-5)


def test_the_first_language_has_no_penalty_but_a_path():
    plugin, model = si(0), Point(START)
    plugin.begin_run(ToyTask(0), model)
    learn(plugin, model, GOALS[0], 2)
    assert plugin.losses(model, {}, {}) == {}
    path = plugin.get("path", "point")
    assert (path[:3] > 0).all() and path[3] == 0  # without curvature there is no gradient


def test_steps_that_climb_count_as_0():
    """A step against the gradient's advice has taken no loss away; importance is never negative."""
    plugin, model = si(0), Point([0.0, 0.0])
    plugin.begin_run(ToyTask(0), model)
    model.point.grad = torch.tensor([1.0, 1.0])
    plugin.before_step(model)
    model.point.data += torch.tensor([0.5, -0.5])
    plugin.after_step(model)
    following = through_a_checkpoint(plugin, si(1), ToyTask(1), model)
    assert following.get("importance", "point").tolist() == pytest.approx([0, 0.5 / (0.25 + DAMPING)])


def test_new_rows_have_no_importance_and_a_path_of_their_own():
    plugin, small, grown = si(0), Point(START.reshape(2, 2)), Point(np.arange(6.0).reshape(3, 2))
    plugin.begin_run(ToyTask(0), small)
    following = through_a_checkpoint(plugin, si(1), ToyTask(1), grown)
    assert following.get("importance", "point").tolist() == [[0, 0]] * 3
    assert following.get("path", "point").shape == (3, 2)
    assert torch.equal(following.get("anchor", "point"), grown.point)


def test_of_a_half_precision_model_it_keeps_float32():
    """Importance is a sum of small products over thousands of updates: bfloat16 would lose them."""
    plugin, model = si(0), Point(START).bfloat16()
    plugin.begin_run(ToyTask(0), model)
    for step in range(3):
        model.point.grad = torch.full((4,), 0.25, dtype=torch.bfloat16)
        plugin.before_step(model)
        with torch.no_grad():
            model.point -= 0.5
        plugin.after_step(model)
    assert {buffer.dtype for buffer in plugin.buffers()} == {torch.float32}
    assert plugin.get("path", "point").tolist() == pytest.approx([3 * 0.25 * 0.5] * 4, rel=0.02)
    following = through_a_checkpoint(plugin, si(1), ToyTask(1), model)
    assert {buffer.dtype for buffer in following.buffers()} == {torch.float32}
    assert set(following.state_dict()) == {"path/point", "anchor/point", "importance/point"}
