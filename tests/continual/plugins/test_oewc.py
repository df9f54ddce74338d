"""Online EWC against the reference's numbers over two tasks, and what its options choose."""

import numpy as np
import pytest
import torch
from golden import assert_golden, det, load_golden
from toy_learner import ToyModel, ToyTask, options, restarted, through_a_checkpoint, toy_batch

from mlvl_fairseq.continual.plugins.oewc import Oewc, OewcOptions
from mlvl_fairseq.criterions.cll_clip import CllClipCriterion, CllClipCriterionConfig
from mlvl_fairseq.modules.expandable_embedding import grow_rows

GOLDEN = load_golden("oewc")
IMAGES = torch.tensor([0, 0, 1, 2, 2, 3])


def batch(phase):
    labels = {"text_features": det((6, 5), 1, 0.4 + phase), "image_features": det((6, 5), 1, 0.8 + phase)}
    return toy_batch(image_ids=IMAGES, **labels)


BATCHES = [batch(phase) for phase in range(3)]


def new_task(position):
    task = ToyTask(position, BATCHES)
    task.criterion = CllClipCriterion(CllClipCriterionConfig(), task)
    return task


def penalty_of(plugin, model):
    scale, penalty = plugin.losses(model, {}, {})["oewc"]
    assert scale == 1000
    return penalty


def flat(plugin, kind):
    return torch.cat([plugin.get(kind, name).flatten() for name in ("head", "embedding")])


@pytest.fixture
def oewc():
    return lambda task, **more: Oewc(options(OewcOptions, ewc_scale=1000, **more), task)


@pytest.fixture
def second_language(oewc):
    """Plugin, model and task when the second language, of two more words, begins."""
    task = new_task(1)
    first = oewc(new_task(0), ewc_gamma=0.9)
    model = ToyModel(grow_rows(det((4, 3), 0.5, 0.6), 6, 0, 0.02, seed=1), det((5, 3), 0.5, 0.7))
    return through_a_checkpoint(first, oewc(task, ewc_gamma=0.9), task, model), model, task


def shift(model):
    with torch.no_grad():
        model.embedding += det((6, 3), 0.1, 0.2)
        model.head += det((5, 3), 0.1, 0.3)


def test_the_first_language_has_no_penalty(oewc):
    model, plugin = ToyModel(det((4, 3), 0.5, 0.6), det((5, 3), 0.5, 0.7)), oewc(new_task(0))
    plugin.begin_run(new_task(0), model)
    assert plugin.losses(model, {}, BATCHES[0]) == {} and not plugin.state_dict()


def test_fisher_information_matches_the_reference_and_is_0_for_new_rows(second_language):
    plugin, model, _ = second_language
    known = torch.cat([plugin.get("importance", "head").flatten(), plugin.get("importance", "embedding")[:4].flatten()])
    assert_golden(known, GOLDEN["fisher_task0"], atol=1e-9)
    assert_golden(flat(plugin, "importance"), GOLDEN["fisher_padded_task1"], atol=1e-9)
    assert torch.equal(plugin.get("anchor", "embedding"), model.embedding)  # new rows are anchored where they start
    assert penalty_of(plugin, model) == 0


def test_penalty_loss_and_gradients_match_the_reference(second_language):
    plugin, model, task = second_language
    shift(model)
    task.plugins, task.model = {"oewc": plugin}, model
    task.criterion.train()
    loss, rows, log = task.criterion(model, BATCHES[0])
    assert_golden(penalty_of(plugin, model), GOLDEN["penalty_task1_after_shift"], atol=0)
    for name, part in (("cross_lingual", "[TT]_loss_mse"), ("cross_modal", "[VT]_loss_cl")):
        assert_golden(log[name] / rows, GOLDEN["loss_task1_parts"][part], msg=name)
    assert_golden(1000 * log["oewc"] / rows, GOLDEN["loss_task1_parts"]["loss_fisher"])
    assert_golden(loss / rows, GOLDEN["loss_task1"])
    (loss / rows).backward()
    for parameter, name in ((model.embedding, "word_embeddings"), (model.head, "head")):
        assert_golden(parameter.grad, GOLDEN[f"grad_{name}_task1"], atol=1e-6)


def test_older_fisher_information_fades_by_gamma(second_language, oewc):
    plugin, model, _ = second_language
    shift(model)
    task = new_task(2)
    following = through_a_checkpoint(plugin, oewc(task, ewc_gamma=0.9), task, model)
    assert_golden(flat(following, "importance"), GOLDEN["fisher_task1"], atol=1e-9)
    assert torch.equal(following.get("anchor", "head"), model.head)


def test_it_is_taken_at_the_temperature_that_the_previous_language_reached(oewc):
    """Not at the one with which the next language starts, and neither temperature nor gradients are left changed."""
    model = ToyModel(det((4, 3), 0.5, 0.6), det((5, 3), 0.5, 0.7))
    importance = {}
    for reached in (0.07, 0.2):
        task = new_task(1)
        state = new_task(0).criterion.state_dict()
        state["temperature"].fill_(reached)
        task.criterion.load_state_dict(state)
        plugin = through_a_checkpoint(oewc(new_task(0)), oewc(task), task, model)
        importance[reached] = flat(plugin, "importance")
        assert task.criterion.temperature.item() == pytest.approx(0.07) and task.criterion.training
        assert model.training and model.head.grad is None and task.criterion.temperature.grad is None
    assert_golden(importance[0.07], GOLDEN["fisher_task0"], atol=1e-9)
    assert not torch.allclose(importance[0.2], importance[0.07], rtol=1e-3)


def test_gradients_that_are_not_finite_count_as_0(oewc):
    broken = batch(0)
    broken["text_features"][0, 0] = float("inf")
    task = new_task(1)
    task.previous = [BATCHES[0], broken]
    model = ToyModel(det((4, 3), 0.5, 0.6), det((5, 3), 0.5, 0.7))
    both = through_a_checkpoint(oewc(new_task(0)), oewc(task), task, model).get("importance", "head")
    task.previous = BATCHES[:1]
    alone = through_a_checkpoint(oewc(new_task(0)), oewc(task), task, model).get("importance", "head")
    assert both.isfinite().all()
    torch.testing.assert_close(both[0], alone[0] / 2)  # the first feature is what was infinite


@pytest.mark.parametrize("batches, size, rows", [
    (0, 4, range(18)), (2, 4, [0, 2, 4, 6, 9, 11, 13, 15]), (9, 4, range(18)), (1, 2, [0, 9])
])  # fmt: skip
def test_a_share_of_the_captions_is_spread_over_all_of_them(oewc, batches, size, rows):
    task = new_task(1)
    model = ToyModel(det((4, 3), 0.5, 0.6), det((5, 3), 0.5, 0.7))
    oewc(task, ewc_batches=batches, ewc_batch_size=size).begin_language(task, model)
    asked_size, asked_rows = task.asked[0]
    assert asked_size == size and np.array_equal(asked_rows, list(rows))


def test_a_restart_finds_importance_and_anchor(second_language, oewc):
    plugin, model, task = second_language
    shift(model)
    again = restarted(plugin, oewc(task, ewc_gamma=0.9), task, model)
    assert torch.equal(penalty_of(again, model), penalty_of(plugin, model))
    assert again.state_dict().keys() == plugin.state_dict().keys() and len(plugin.state_dict()) == 4


def test_parts_of_single_languages_and_frozen_ones_are_left_out(oewc):
    task, model = new_task(1), ToyModel(det((4, 3), 0.5, 0.6), det((5, 3), 0.5, 0.7))
    model.adapter = torch.nn.Linear(2, 2)
    model.head.requires_grad = False
    plugin = oewc(task)
    plugin.begin_language(task, model)
    assert plugin.state_dict().keys() == {"importance/embedding", "anchor/embedding"}
