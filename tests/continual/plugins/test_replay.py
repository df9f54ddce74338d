"""Replay: the reference's reservoir and loss, what is drawn, what methods make of it, and what a restart finds."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from golden import assert_golden, det, load_golden
from toy_learner import ToyModel, ToyTask, options, restarted, through_a_checkpoint, toy_batch

from mlvl_fairseq.continual.memory import SELECTIONS
from mlvl_fairseq.continual.memory import reservoir as reservoir_module
from mlvl_fairseq.continual.memory import store as store_module
from mlvl_fairseq.continual.memory.store import Memory, MemoryOptions
from mlvl_fairseq.continual.plugins import PLUGINS, active_plugins
from mlvl_fairseq.continual.plugins.er import ExperienceReplay
from mlvl_fairseq.criterions.cll_clip import CllClipCriterion, CllClipCriterionConfig
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.tasks._base import without_rows

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
    count, length = tokens.shape
    return {"tokens": tokens, "eos_positions": torch.full((count,), length - 1), "lengths": np.full(count, length)}


def replay_options(**more):
    kinds = (plugin.options for plugin in PLUGINS.values())
    return options(*kinds, **{"memory_size": 10, **more})


@pytest.fixture
def replay(monkeypatch):
    """``replay(task, **options)``: the memory; the method that uses it is in ``task.plugins`` beside it."""
    monkeypatch.setattr(store_module, "MemoryCaptions", Captions)

    def build(task, **more):
        task.plugins = active_plugins(replay_options(**more), task)
        for plugin in task.plugins.values():
            plugin.begin_run(task, None)
        return task.plugins["replay"]

    return build


def see(plugin, number):
    """Offer the reference's batch of this number: those of its eight rows that did not come from memory."""
    own = [row for row in range(8) if row % 4 != 3]
    rest = [row for row in range(8) if row % 4 == 3]  # replayed rows follow a batch's own
    features = det((8, 2), 1, number)[own + rest]
    ids = torch.tensor([8 * number + row for row in own])
    plugin.after_backward({"id": ids, "nsentences": len(own), "text_output": features[: len(own)]})


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


def rows_of(text):
    """A model whose feature of a caption is the row of `text` that its first token names."""
    return lambda tokens, eos_positions, lengths: {"text": text[tokens[:, 0]]}


def numbered(rows, **more):
    """A batch of captions that :func:`rows_of` gives these rows as features of."""
    return {**toy_batch(rows[:, None]), "net_input": positions(rows[:, None]), "id": rows, **more}


def new_criterion(task, **more):
    task.plugins = active_plugins(replay_options(**more), task)
    return CllClipCriterion(CllClipCriterionConfig(), task)


def test_loss_and_gradients_match_the_reference():
    golden, task = GOLDEN["loss"], ToyTask(1)
    order = sorted(range(6), key=lambda row: golden["mem"][row])  # our batch's own rows come first
    own = 6 - sum(golden["mem"])
    text, english, images = (det((6, 5), 1, phase)[order] for phase in (0, 0.4, 0.8))
    text.requires_grad_()
    ids, rows = torch.tensor(IDS)[order], torch.arange(6)

    def batch(part):
        features = {"text_features": english[part], "image_features": images[part]}
        return numbered(rows[part], image_ids=ids[part], **features)

    criterion = new_criterion(task)
    sample = {**batch(slice(own)), "memory": {"replay": batch(slice(own, 6))}}
    loss, size, log = criterion(rows_of(text), sample)
    assert size == own == log["sample_size"] and len(sample["text_output"]) == own
    (loss / size).backward()
    assert_golden(loss / size, golden["loss"])
    parts = {"cross_lingual": "[TT]_loss_mse", "cross_modal": "[VT]_loss_cl", "replay": "loss_replay"}
    for name, part in parts.items():
        assert_golden(log[name] / size, golden["parts"][part], msg=name)
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
    return plugin.draw(own_batch(rows))["image_ids"].tolist()


def test_a_batch_of_the_memory_is_a_batch_of_its_own(second_language):
    memory, own = second_language(), own_batch(4)
    sample = memory.task.plugins["er"].extend_batch(own)
    assert {key: value for key, value in sample.items() if key != "memory"} == own and sample.keys() > own.keys()
    batch = sample["memory"]["replay"]
    assert batch["net_input"]["tokens"].shape == (4, 2) and batch["nsentences"] == 4 and batch["ntokens"] == 8
    numbers = batch["image_ids"]
    assert torch.equal(batch["text_features"][:, 1], -numbers.float())  # the teacher's English features
    assert set(numbers.tolist()) <= set(memory.items[:, 1].tolist())
    assert len(replayed(second_language(replay_batch_size=7), 4)) == 7


def test_the_first_language_has_nothing_to_replay(replay):
    task, own = ToyTask(0), own_batch(4)
    assert replay(task).draw(own) is None and task.plugins["er"].extend_batch(own) is own
    assert task.plugins["er"].losses(None, {}, own) == {} and task.plugins["er"].cross_modal(None, {}, own) is None


def test_every_caption_of_the_memory_comes_once_a_round(second_language):
    plugin = second_language()
    memory = sorted(plugin.items[:, 1].tolist())
    rounds = [[number for _ in range(5) for number in replayed(plugin, 2)] for _ in range(2)]
    assert sorted(rounds[0]) == sorted(rounds[1]) == memory and rounds[0] != rounds[1]


@pytest.mark.parametrize("shares", [(3, 3), (4, 2), (6, 0)])
def test_ranks_share_one_draw(second_language, monkeypatch, shares):
    """As many captions as each has of its own; the batch that a rank without captions stands by with is not counted."""
    alone = second_language()
    ranks = [second_language(ranks=2, rank=rank) for rank in range(2)]
    for _ in range(4):
        expected = replayed(alone, 6)
        monkeypatch.setattr(store_module, "gather_values", lambda own: list(shares))
        drawn = [
            rank.draw(own_batch(share) if share else without_rows(own_batch(3)))["image_ids"].tolist()
            for rank, share in zip(ranks, shares)
        ]
        monkeypatch.undo()
        assert expected == [number for own, share in zip(drawn, shares) if share for number in own]


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
    batch = plugin.draw(own_batch(4))
    features = {item: label for item, label in zip(plugin.items[:, 1].tolist(), plugin.labels)}
    expected = torch.stack([features[number] for number in batch["image_ids"].tolist()])
    assert torch.equal(batch["student_features"], expected)


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
    help_text = MemoryOptions.__dataclass_fields__["memory_selection"].metadata["help"]
    assert SELECTIONS and all(f"{name}: {selection.about}" in help_text for name, selection in SELECTIONS.items())


REPLAY = [name for name, plugin in PLUGINS.items() if plugin.family == "replay" and plugin is not Memory]


@pytest.mark.parametrize("name", REPLAY)
def test_a_method_of_replay_is_chosen_by_its_name(name):
    cfg = replay_options(replay_method=name, memory_label=PLUGINS[name].label)
    assert set(active_plugins(cfg, ToyTask())) == {"replay", name}
    other = {"teacher": "student", "student": "teacher"}[PLUGINS[name].label]
    with pytest.raises(UserError, match=f"--replay-method {name} needs --memory-label {PLUGINS[name].label}"):
        active_plugins(replay_options(replay_method=name, memory_label=other), ToyTask())
    with pytest.raises(UserError, match=f"--replay-method {name} needs a memory: give --memory-size"):
        active_plugins(replay_options(replay_method=name, memory_size=0), ToyTask())


def test_without_a_choice_the_label_says_er_or_der():
    for label, name in (("teacher", "er"), ("student", "der")):
        assert set(active_plugins(replay_options(memory_label=label), ToyTask())) == {"replay", name}
    names = ", ".join(["auto", *sorted(REPLAY)])
    with pytest.raises(UserError, match=f"no --replay-method nothing; there are: {names}$"):
        active_plugins(replay_options(replay_method="nothing"), ToyTask())


def softmax_loss(text, image, ids, queries, keys, temperature=0.07):
    """float64: sum over `queries` of the symmetric cross-entropy over `keys`, positives by image id, by definition."""
    text, image = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (text, image))
    total = 0.0
    for q in queries:
        positives = np.array([ids[k] == ids[q] for k in keys]) / sum(ids[k] == ids[q] for k in keys)
        for one, other in ((text, image), (image, text)):
            logits = np.array([one[q] @ other[k] for k in keys]) / temperature
            total -= 0.5 * positives @ (logits - np.log(np.exp(logits).sum()))
    return total


def learning(name, **more):
    """Terms that a method gives a batch of rows 0-3 beside draws of its own, and what they are made of, in float64."""
    task = ToyTask(1)
    criterion = new_criterion(task, replay_method=name, memory_label=PLUGINS[name].label, **more)
    draws = PLUGINS[name].draws
    size = 4 + 3 * len(draws)
    text, image, english, then = (det((size, 5), 1, phase) for phase in (0.1, 0.5, 0.9, 1.4))
    ids = torch.tensor(([0, 1, 1, 2] + [2, 3, 0] * len(draws))[:size])

    def batch(rows):
        known = {"image_features": image[rows], "text_features": english[rows], "student_features": then[rows]}
        return numbered(rows, image_ids=ids[rows], **known)

    places = {draw: torch.arange(4 + 3 * i, 7 + 3 * i) for i, draw in enumerate(draws)}
    sample = {**batch(torch.arange(4)), "memory": {draw: batch(rows) for draw, rows in places.items()}}
    loss, size, log = criterion(rows_of(text), sample)
    terms = {term: float(value) / size for term, value in log.items() if term not in ("ntokens", "nsentences")}
    arrays = [x.double().numpy() for x in (text, image, english, then)]
    return terms, *arrays, ids.numpy(), {draw: rows.numpy() for draw, rows in places.items()}


def test_derpp_equals_its_definition():
    terms, text, image, english, then, ids, draws = learning("derpp", derpp_alpha=0.3, derpp_beta=0.7)
    dark = ((text - then)[draws["dark"]] ** 2).mean()
    replay = ((text - english)[draws["replay"]] ** 2).mean()
    rows = [*range(4), *draws["replay"]]  # the other draw takes no part in the contrast
    contrast = softmax_loss(text, image, ids, rows, rows) / len(rows)
    own = ((text - english)[:4] ** 2).mean()
    expected = {"dark": dark, "replay": replay, "cross_modal": contrast, "cross_lingual": own}
    assert {name: terms[name] for name in expected} == pytest.approx(expected, rel=1e-5)
    assert terms["loss"] == pytest.approx(own + 0.01 * contrast + 0.3 * dark + 0.7 * replay, rel=1e-5)


@pytest.mark.parametrize("name", ["er", "der"])
def test_er_and_der_equal_their_definition(name):
    """ER's target is the teacher's feature of the English sentence, DER's the student's of then."""
    terms, text, image, english, then, ids, draws = learning(name, replay_scale=2.0)
    target, rows = {"er": english, "der": then}[name], range(7)
    expected = {
        "replay": ((text - target)[draws["replay"]] ** 2).mean(),
        "cross_modal": softmax_loss(text, image, ids, rows, rows) / 7,
        "cross_lingual": ((text - english)[:4] ** 2).mean(),
    }
    assert {term: terms[term] for term in expected} == pytest.approx(expected, rel=1e-5)
    total = expected["cross_lingual"] + 0.01 * expected["cross_modal"] + 2 * expected["replay"]
    assert terms["loss"] == pytest.approx(total, rel=1e-5)


def test_er_ace_equals_its_definition():
    terms, text, image, english, _, ids, draws = learning("er_ace", replay_scale=2.0)
    new, rows = range(4), range(7)
    contrast = softmax_loss(text, image, ids, new, new) + softmax_loss(text, image, ids, draws["replay"], rows)
    symmetric = softmax_loss(text, image, ids, rows, rows)
    replay = ((text - english)[draws["replay"]] ** 2).mean()
    expected = {"replay": replay, "cross_modal": contrast / 7, "cross_lingual": ((text - english)[:4] ** 2).mean()}
    assert {name: terms[name] for name in expected} == pytest.approx(expected, rel=1e-5)
    assert abs(contrast - symmetric) > 0.1  # what the test must tell apart


@pytest.mark.parametrize("name", REPLAY)
def test_several_draws_are_other_captions(second_language, name):
    """Together they go through the memory as one draw of their size would."""
    plugin = second_language(replay_method=name, memory_label=PLUGINS[name].label)
    batches = plugin.task.plugins[name].extend_batch(own_batch(3))["memory"]
    alone = second_language(memory_label=PLUGINS[name].label)
    assert sum((batch["image_ids"].tolist() for batch in batches.values()), []) == replayed(alone, 3 * len(batches))
    assert int(plugin.draws) == len(batches) == len(PLUGINS[name].draws)


def test_labels_of_earlier_versions_are_taken_over(second_language):
    """Buffers of the replay plugin of versions that had one: names and meaning are the same."""
    plugin = second_language(memory_label="student")
    assert plugin.state_dict().keys() == {"items", "labels", "next_items", "next_labels", "seen", "draws"}
    assert isinstance(plugin.task.plugins["der"], ExperienceReplay) and not plugin.task.plugins["der"].state_dict()
