"""What stays in memory: reservoir, balanced and herding, and that a new file is a new way to choose."""

import collections
import itertools
import random

import numpy as np
import pytest
import torch

from mlvl_fairseq.continual import memory as package
from mlvl_fairseq.continual.memory import SELECTIONS
from mlvl_fairseq.continual.memory.balanced import Balanced
from mlvl_fairseq.continual.memory.herding import CANDIDATES, Herding, herd
from mlvl_fairseq.continual.memory.reservoir import Reservoir, reservoir_slots

CAPTIONS = 60


class Memory:
    """What a selection sees of the replay plugin; the feature of caption i is ``features[i]``."""

    def __init__(self, features=None):
        self.items, self.labels = torch.zeros(0, 2, dtype=torch.int64), torch.zeros(0, 1)
        self.next_items, self.next_labels = self.items, self.labels
        self.features = features

    def label(self, task, model, rows):
        return torch.tensor(rows)[:, None].float() + 1000 * task.position

    def student_features(self, task, model, rows):
        return self.features[torch.tensor(rows)]


class Task:
    def __init__(self, position):
        self.position, self.learned = position, [f"l{i}" for i in range(position)]

    @staticmethod
    def caption_count(lang):
        return CAPTIONS


def test_every_caption_stays_with_the_same_probability():
    counts = collections.Counter()
    for seed in range(3000):
        slots, generator = [], np.random.default_rng(seed)
        for start in range(0, 20, 4):
            slots += reservoir_slots(4, start, 5, lambda low, high: int(generator.integers(low, high + 1)))
        memory = {slot: caption for caption, slot in enumerate(slots) if slot is not None}
        assert memory.keys() == set(range(5))
        counts.update(memory.values())
    expected, deviation = 3000 * 5 / 20, (3000 * 0.25 * 0.75) ** 0.5
    assert all(abs(counts[caption] - expected) < 4.5 * deviation for caption in range(20))


def test_reservoir_draws_follow_seed_and_count():
    def offered(seed, cut):
        memory = Memory()
        for start in range(0, 12, cut):
            ids = torch.arange(start, start + cut)
            Reservoir(4, seed).offer(memory, torch.stack([ids, ids], dim=1), ids[:, None].float(), start)
        assert torch.equal(memory.next_items[:, 1].float(), memory.next_labels[:, 0])
        return memory.next_items[:, 0].tolist()

    assert offered(1, 3) == offered(1, 3) != offered(2, 3)
    assert offered(1, 12) != offered(1, 3)  # draws start anew with every update, whatever was drawn before a restart


def offer_all(seed, size, batches):
    """The shipped class over batches as `Memory.after_backward` offers them: captions in memory, and its labels."""
    memory, start = Memory(), 0
    for count in batches:
        ids = torch.arange(start, start + count)
        items = torch.stack([torch.full_like(ids, 3), ids], dim=1)
        Reservoir(size, seed).offer(memory, items, ids[:, None] + 0.5, start)
        start += count
    assert (memory.next_items[:, 0] == 3).all()
    assert torch.equal(memory.next_items[:, 1:] + 0.5, memory.next_labels)
    return memory.next_items[:, 1].tolist()


def algorithm_r(seed, size, batches):
    """Vitter 1985, algorithm R: caption n (from 0) goes to a place drawn from 0..n, if that is one of `size`.

    Every batch draws from a stream of its own, named by the seed and by how many captions came before.
    """
    memory, seen = [], 0
    for count in batches:
        stream = random.Random(f"{seed}/{seen}")
        for caption in range(seen, seen + count):
            if len(memory) < size:
                memory.append(caption)
            else:
                place = stream.randint(0, caption)
                if place < size:
                    memory[place] = caption
        seen += count
    return memory


@pytest.mark.parametrize("batches", [[4] * 5, [20], [1] * 20, [3, 9, 1, 7], [7, 7], [5], [2]])
@pytest.mark.parametrize("seed", [1, 77])
def test_the_reservoir_is_vitter_s(seed, batches):
    for size in (1, 5, 7, 30):
        assert offer_all(seed, size, batches) == algorithm_r(seed, size, batches)


def test_over_seeds_the_reservoir_is_an_even_sample():
    """Of 20 captions in batches of 4, each is in memory with probability 5 / 20, in each place with 1 / 20."""
    draws, counts, places = 2000, collections.Counter(), collections.Counter()
    for seed in range(draws):
        kept = offer_all(seed, 5, [4] * 5)
        assert len(set(kept)) == 5
        counts.update(kept)
        places.update(kept[-1:])
    deviation = (draws * 0.25 * 0.75) ** 0.5
    assert all(abs(counts[caption] - draws * 5 / 20) < 4.5 * deviation for caption in range(20))
    assert sum(places[caption] for caption in range(5, 20)) == pytest.approx(draws * 15 / 20, rel=0.06)


def test_balanced_shares_shrink_as_languages_come():
    memory, size, shares = Memory(), 10, {1: [10], 2: [5, 5], 3: [4, 3, 3], 4: [3, 3, 2, 2]}
    kept = {}
    for position, share in shares.items():
        memory.items, memory.labels = Balanced(size, seed=3).at_the_end(memory, Task(position), None)
        languages = memory.items[:, 0].tolist()
        assert [languages.count(lang) for lang in range(position)] == share
        assert memory.labels[:, 0].tolist() == [caption + 1000 * (lang + 1) for lang, caption in memory.items.tolist()]
        for lang in range(position):
            now = memory.items[memory.items[:, 0] == lang, 1].tolist()
            before = kept.get(lang, now)
            assert now == before[: len(now)] and len(set(now)) == len(now)  # a part of what there was, in its order
            kept[lang] = now


def test_a_language_smaller_than_its_share_is_kept_whole():
    items, labels = Balanced(200, seed=3).at_the_end(Memory(), Task(1), None)
    assert sorted(items[:, 1].tolist()) == list(range(CAPTIONS)) and len(labels) == CAPTIONS


def test_what_was_gathered_is_not_looked_at_by_balanced():
    memory = Memory()
    before = memory.next_items
    Balanced(4, 1).offer(memory, torch.ones(2, 2, dtype=torch.int64), torch.ones(2, 1), 0)
    assert memory.next_items is before


def brute_force(features, number):
    """iCaRL, algorithm 4, as it is written."""
    mean, chosen = features.mean(axis=0), []
    for _ in range(number):
        free = [row for row in range(len(features)) if row not in chosen]
        chosen.append(min(free, key=lambda row: np.linalg.norm(mean - features[[*chosen, row]].mean(axis=0))))
    return chosen


@pytest.mark.parametrize("seed", range(3))
def test_herding_equals_its_definition(seed):
    features = np.random.default_rng(seed).normal(size=(30, 4)) + 0.5
    assert herd(features, 12).tolist() == brute_force(features, 12)
    assert sorted(herd(features, 30)) == list(range(30))


def test_ties_go_to_the_smaller_row():
    assert herd(np.array([[0.0, 1], [1, 0], [1, 0], [0, 1]]), 4).tolist()[:2] == [0, 1]


def test_the_first_ones_of_a_herd_stand_for_the_whole():
    """Also when shares have shrunk: any beginning of the herd is closer to the mean than random captions are."""
    features = np.random.default_rng(1).normal(size=(200, 8))
    mean, order = features.mean(axis=0), herd(features, 50)
    for number in (10, 25, 50):
        draws = [np.random.default_rng(draw).choice(200, number, replace=False) for draw in range(20)]
        others = min(np.linalg.norm(features[draw].mean(axis=0) - mean) for draw in draws)
        assert np.linalg.norm(features[order[:number]].mean(axis=0) - mean) < others


def test_herding_looks_at_several_times_as_many_candidates_by_direction():
    generator = torch.Generator().manual_seed(5)
    features = torch.randn(CAPTIONS, 3, generator=generator) + 1
    memory, number = Memory(features), 6
    items, _ = Herding(number, seed=3).at_the_end(memory, Task(1), None)
    candidates = Balanced(number, seed=3).choose(memory, Task(1), None, CANDIDATES * number)
    directions = features.double().numpy()[candidates]
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    assert items[:, 1].tolist() == candidates[brute_force(directions, number)].tolist()
    longer = Memory(features * torch.arange(1, CAPTIONS + 1)[:, None])  # lengths do not matter
    assert torch.equal(Herding(number, seed=3).at_the_end(longer, Task(1), None)[0], items)


def test_draws_follow_the_seed_and_the_place_in_the_order():
    chosen = {
        (seed, place): tuple(Balanced(8, seed).at_the_end(Memory(), Task(place), None)[0][-2:, 1].tolist())
        for seed, place in itertools.product((1, 2), (1, 2))
    }
    assert len(set(chosen.values())) == 4


def test_quotas_use_every_place():
    for size, languages in itertools.product((7, 8, 36), (1, 3, 8, 36)):
        quotas = Balanced(size, 0).quotas(languages)
        assert quotas.sum() == size and quotas.max() - quotas.min() <= 1 and (np.diff(quotas) <= 0).all()


def test_a_new_file_is_a_new_way_to_choose(add_file):
    text = "from mlvl_fairseq.continual.memory.base import Selection, register_selection\n"
    before = set(SELECTIONS)
    add_file(package, "newest", text + "@register_selection('newest')\nclass Newest(Selection):\n    about = 'x'\n")
    try:
        assert set(SELECTIONS) == before | {"newest"} != before
    finally:
        del SELECTIONS["newest"]
