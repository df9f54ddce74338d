"""Replay: the reference's reservoir and loss, what is drawn, and what a restart finds."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from golden import assert_golden, det, load_golden
from toy_learner import ToyModel, ToyTask, options, restarted, through_a_checkpoint, toy_batch

from mlvl_fairseq.continual.memory import SELECTIONS
from mlvl_fairseq.continual.memory import reservoir as reservoir_module
from mlvl_fairseq.continual.plugins import replay as replay_module
from mlvl_fairseq.continual.plugins.replay import Replay, ReplayOptions
from mlvl_fairseq.criterions.cll_clip import CllClipCriterion, CllClipCriterionConfig

GOLDEN = load_golden("replay")
IDS = load_golden("losses")["vision_ids"]


class Captions:
    """In the place of `MemoryCaptions`: a caption is its number."""

    def __init__(self, task, items):
        self.items, self.languages = items, items[:, 0]

    def batch(self, rows):
        tokens = torch.tensor(self.items[rows])
        more = {"image_ids": tokens[:, 1], "image_features": tokens.float(), "text_features": -tokens.float()}
        return {**toy_batch(tokens, **more), "net_input": positions(tokens)}

    def languages_of_tokens(self):
        return np.array([1, 0, 2], np.int32)


def positions(tokens):
    return {"tokens": tokens, "eos_positions": torch.full((len(tokens),), tokens.shape[1] - 1)}


@pytest.fixture
def replay(monkeypatch):
    monkeypatch.setattr(replay_module, "MemoryCaptions", Captions)

    def build(task, **more):
        plugin = Replay(options(ReplayOptions, **{"memory_size": 10, **more}), task)
        plugin.begin_run(task, None)
        return plugin

    return build


def see(plugin, number):
    """Offer the reference's batch of this number: those of its eight rows that did not come from memory."""
    own = [row for row in range(8) if row % 4 != 3]
    rest = [row for row in range(8) if row % 4 == 3]  # replayed rows follow a batch's own
    features = det((8, 2), 1, number)[own + rest]
    ids = torch.tensor([8 * number + row for row in own])
    plugin.after_backward({"id": ids, "nsentences": len(own), "text_output": features})


@pytest.mark.parametrize("label", ["teacher", "student"])
def test_the_reservoir_is_the_reference_s(replay, monkeypatch, label):
    generator = random.Random(GOLDEN["seed"])
    monkeypatch.setattr(reservoir_module, "random", SimpleNamespace(Random=lambda seed: generator))
    task = ToyTask()
    plugin = replay(task, memory_label=label)
    for number, expected in enumerate(GOLDEN["trace"]):
        see(plugin, number)
        assert plugin.next_items[:, 1].tolist() == expected["sids"] and int(plugin.seen) == expected["n"]
    assert len(plugin.items) == 0 and int(plugin.draws) == 0
    if label == "student":
        assert_golden(plugin.next_labels, GOLDEN["dark_labels"])
    else:
        assert plugin.next_labels.shape == (10, 0)


def test_loss_and_gradients_match_the_reference():
    golden, task = GOLDEN["loss"], ToyTask(1)
    order = sorted(range(6), key=lambda row: golden["mem"][row])  # our replayed rows are the last ones
    own = 6 - sum(golden["mem"])
    text, english, images = (det((6, 5), 1, phase)[order] for phase in (0, 0.4, 0.8))
    plugin = Replay(options(ReplayOptions, memory_size=10), task)
    task.plugins, task.model = {"replay": plugin}, None
    criterion = CllClipCriterion(CllClipCriterionConfig(), task)
    text.requires_grad_()
    sample = {
        "net_input": {"text": text}, "nsentences": own, "ntokens": 50, "memory_labels": english[own:],
        "text_features": english[:own], "image_features": images, "image_ids": torch.tensor(IDS)[order],
    }  # fmt: skip
    loss, rows, log = criterion(lambda text: {"text": text}, sample)
    assert rows == own == log["sample_size"]
    (loss / rows).backward()
    assert_golden(loss / rows, golden["loss"])
    parts = {"cross_lingual": "[TT]_loss_mse", "cross_modal": "[VT]_loss_cl", "replay": "loss_replay"}
    for name, part in parts.items():
        assert_golden(log[name] / rows, golden["parts"][part], msg=name)
    assert_golden(text.grad, [golden["grad_preds"][row] for row in order])
    assert_golden(criterion.temperature.grad, golden["grad_vt_temp"])


@pytest.fixture
def second_language(replay):
    """``second_language(**options)``: replay in the second language, with ten captions of the first one."""

    def build(ranks=1, rank=0, **more):
        task = ToyTask(1)
        task.ranks, task.rank = ranks, rank
        first = replay(ToyTask(0), **more)
        for number in range(3):
            see(first, number)
        return through_a_checkpoint(first, replay(task, **more), task, ToyModel(det((4, 3), 1, 0), det((5, 3), 1, 0)))

    return build


def own_batch(rows):
    tokens = torch.arange(3 * rows).view(rows, 3)
    more = {"image_ids": torch.arange(rows), "image_features": torch.ones(rows, 2), "id": torch.arange(rows)}
    return {**toy_batch(tokens, **more), "net_input": positions(tokens)}


def replayed(plugin, rows):
    sample = plugin.extend_batch(own_batch(rows))
    return sample["image_ids"][rows:].tolist()


def test_a_batch_is_followed_by_as_many_captions_of_earlier_languages(second_language):
    plugin = second_language()
    sample = plugin.extend_batch(own_batch(4))
    assert sample["nsentences"] == 4 and sample["net_input"]["tokens"].shape == (8, 3)
    assert sample["image_features"].shape == (8, 2) and sample["id"].tolist() == [0, 1, 2, 3]
    numbers = sample["image_ids"][4:]
    assert torch.equal(sample["memory_labels"][:, 1], -numbers.float())  # ER: the teacher's English features
    assert set(numbers.tolist()) <= set(plugin.items[:, 1].tolist())
    assert len(replayed(second_language(replay_batch_size=7), 4)) == 7


def test_every_caption_of_the_memory_comes_once_a_round(second_language):
    plugin = second_language()
    memory = sorted(plugin.items[:, 1].tolist())
    rounds = [[number for _ in range(5) for number in replayed(plugin, 2)] for _ in range(2)]
    assert sorted(rounds[0]) == sorted(rounds[1]) == memory and rounds[0] != rounds[1]


def test_ranks_share_one_draw(second_language):
    alone = second_language()
    ranks = [second_language(ranks=2, rank=rank) for rank in range(2)]
    for _ in range(4):
        assert replayed(alone, 6) == replayed(ranks[0], 3) + replayed(ranks[1], 3)


def test_what_is_replayed_stays_while_the_next_memory_is_gathered(second_language):
    plugin = second_language()
    before = plugin.items.clone()
    for number in range(5):
        see(plugin, number)
    assert torch.equal(plugin.items, before) and int(plugin.seen) == 48
    assert set(plugin.next_items[:, 0].tolist()) == {0, 1}


def test_labels_of_student_are_the_features_of_then(second_language):
    plugin = second_language(memory_label="student")
    assert plugin.labels.shape == (10, 2) and plugin.labels.dtype == torch.float32
    sample = plugin.extend_batch(own_batch(4))
    features = {item: label for item, label in zip(plugin.items[:, 1].tolist(), plugin.labels)}
    expected = torch.stack([features[number] for number in sample["image_ids"][4:].tolist()])
    assert torch.equal(sample["memory_labels"], expected)


@pytest.mark.parametrize("every_epoch", [False, True])
def test_later_epochs_are_offered_on_request_only(replay, every_epoch):
    task = ToyTask()
    plugin = replay(task, memory_every_epoch=every_epoch)
    see(plugin, 0)
    task.is_first_epoch = False
    see(plugin, 0)
    assert int(plugin.seen) == (12 if every_epoch else 6)


@pytest.mark.parametrize("label", ["teacher", "student"])
def test_a_restart_goes_on_exactly(second_language, replay, label):
    plugin = second_language(memory_label=label)
    replayed(plugin, 3), see(plugin, 4)
    again = replay(plugin.task, memory_label=label)
    assert len(again.items) == 0
    again = restarted(plugin, again, plugin.task, None)
    for one in (plugin, again):
        see(one, 3)
    assert replayed(plugin, 3) == replayed(again, 3)
    for name, tensor in plugin.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


@pytest.mark.parametrize("counts", [False, True])
def test_replayed_tokens_are_current_and_count_as_use_on_request_only(second_language, counts):
    """Quirk of the published code: a replayed token's frequency grows with every language."""
    task, model = ToyTask(1), torch.nn.Module()
    model.language_state = SimpleNamespace(current_tokens=torch.tensor([1, 1, 0], dtype=torch.int32))
    plugin = second_language(memory_counts_as_use=False)
    assert plugin.current_tokens().tolist() == [1, 0, 2]
    plugin.cfg.memory_counts_as_use = counts
    plugin.begin_language(task, model)
    assert model.language_state.current_tokens.tolist() == ([2, 1, 2] if counts else [1, 1, 0])


def test_every_way_to_choose_is_offered_by_the_option():
    help_text = ReplayOptions.__dataclass_fields__["memory_selection"].metadata["help"]
    assert SELECTIONS.keys() == {"reservoir", "balanced", "herding"}
    assert all(f"{name}: {selection.about}" in help_text for name, selection in SELECTIONS.items())
