"""The vectorised bootstrap against a loop that follows the definition in float64, and what its numbers mean."""

import itertools
import time

import numpy as np
import pytest
from run_folders import random_ranks, same_images

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.evaluation.metrics.bootstrap import paired_accuracy_bootstrap, paired_bootstrap
from mlvl_fairseq.evaluation.metrics.query_ranks import QueryRanks
from mlvl_fairseq.evaluation.metrics.retrieval import METRICS, RECALL_AT, recalls


def slow_recalls(ranks, drawn):
    """Recalls in % on drawn images (repeated as often as drawn), their captions with them; then their mean."""
    captions = {image: np.flatnonzero(ranks.text_to_image == image) for image in set(drawn)}
    of_images = [ranks.image_ranks[image] for image in drawn]
    of_texts = [ranks.text_ranks[text] for image in drawn for text in captions[image]]
    values = [
        100.0 * sum(rank < k for rank in queries) / len(queries) for queries in (of_images, of_texts) for k in RECALL_AT
    ]
    return np.array([*values, sum(values) / len(values)])


@pytest.fixture
def pairs():
    """Three languages, two seeds; the first two languages share their images, the third has others."""
    rng = np.random.default_rng(1)
    languages = []
    for n_images in (13, 13, 9):
        ranks = random_ranks(rng, n_images, 0.2, n_texts=4)
        languages.append([(same_images(ranks, rng, 0.3), same_images(ranks, rng, 0.2)) for _ in range(2)])
    return languages


def test_against_the_definition(pairs):
    resamples, rng = 150, np.random.default_rng(7)
    differences = paired_bootstrap(pairs, resamples, seed=7)
    draws = {size: [rng.integers(size, size=size) for _ in range(resamples)] for size in (13, 9)}
    for draw in range(resamples):
        expected = np.zeros(7)
        for language in pairs:
            drawn = draws[len(language[0][0].images)][draw]
            for first, second in language:
                expected += (slow_recalls(first, drawn) - slow_recalls(second, drawn)) / 6
        actual = [differences[metric].draws[draw] for metric in METRICS]
        np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)


def test_images_that_are_queries_once_a_caption(pairs):
    """As mCLIP's evaluation counts: an image with three captions is three queries from image to text."""

    def unfolded(ranks):
        """The same hits, an image for each of its captions: what the definition without weights gives."""
        values = [100.0 * np.mean(ranks.image_ranks[ranks.text_to_image] < k) for k in RECALL_AT]
        values += [100.0 * np.mean(ranks.text_ranks < k) for k in RECALL_AT]
        return np.array([*values, np.mean(values)])

    differences = paired_bootstrap(pairs, 40, seed=7, by_text=True)
    expected = np.mean([[unfolded(a) - unfolded(b) for a, b in language] for language in pairs], axis=(0, 1))
    np.testing.assert_allclose([differences[metric].observed for metric in METRICS], expected, rtol=0, atol=1e-12)
    rng = np.random.default_rng(7)
    for_third, size = pairs[2], 9
    alone = paired_bootstrap([for_third], 40, seed=7, by_text=True)
    for draw in range(40):
        drawn = rng.integers(size, size=size)
        rows = [np.flatnonzero(for_third[0][0].text_to_image == image) for image in drawn]
        own = np.concatenate(rows)
        found = []
        for first, second in for_third:
            hits = [(r.image_ranks[r.text_to_image][own] < 1).mean() for r in (first, second)]
            found.append(100 * (hits[0] - hits[1]))
        assert alone["txt_r1"].draws[draw] == pytest.approx(np.mean(found), abs=1e-10)


def test_observed_difference_is_that_of_the_scores(pairs):
    differences = paired_bootstrap(pairs, resamples=1)
    for metric in METRICS:
        expected = [
            recalls(first.image_ranks, first.text_ranks)[metric]
            - recalls(second.image_ranks, second.text_ranks)[metric]
            for language in pairs
            for first, second in language
        ]
        assert differences[metric].observed == pytest.approx(np.mean(expected), abs=1e-12)


def test_seeds_drawn_too(pairs):
    """A draw of images and seeds, by the definition: some draws have one seed twice, in all languages at once."""
    resamples, rng = 60, np.random.default_rng(7)
    found = paired_bootstrap(pairs, resamples, seed=7, draw_seeds=True)
    draws = {size: [rng.integers(size, size=size) for _ in range(resamples)] for size in (13, 9)}
    chosen = set()
    for draw in range(resamples):
        each = np.zeros((2, 7))  # of the first seed, of the second
        for language in pairs:
            drawn = draws[len(language[0][0].images)][draw]
            for number, (first, second) in enumerate(language):
                each[number] += (slow_recalls(first, drawn) - slow_recalls(second, drawn)) / 3
        actual = [found[metric].draws[draw] for metric in METRICS]
        possible = {"first": each[0], "second": each[1], "both": each.mean(axis=0)}
        chosen.add(next(name for name, values in possible.items() if np.allclose(actual, values, atol=1e-10)))
    assert chosen == {"first", "second", "both"}
    assert found["r_mean"].observed == paired_bootstrap(pairs, 1)["r_mean"].observed


def test_variance_of_images_and_seeds():
    """Three trainings; over all 27 ways to draw three of them: variance of the mean plus mean of the variances."""
    size, steps = 50, (0, 2, 10)  # the first method finds so many images more

    def ranks(found):
        places = np.where(np.arange(size) < found, 0, 10_000)
        return QueryRanks(np.arange(size), np.arange(size), places, places)

    seeds = [(ranks(20 + step), ranks(20)) for step in steps]
    gains = np.array([[100 * (20 <= image < 20 + step) for image in range(size)] for step in steps])
    ways = np.array([gains[list(way)].mean(axis=0) for way in itertools.product(range(3), repeat=3)])
    drawn = paired_bootstrap([seeds], 4000, draw_seeds=True)["img_r1"]
    expected = ways.mean(axis=1).var() + ways.var(axis=1).mean() / size
    assert drawn.draws.var() == pytest.approx(expected, rel=0.1)
    assert paired_bootstrap([seeds], 4000)["img_r1"].draws.var() == pytest.approx(
        gains.mean(axis=0).var() / size, rel=0.1
    )


def test_interval_and_p_value(pairs):
    difference = paired_bootstrap(pairs, resamples=200)["r_mean"]
    draws = sorted(difference.draws)
    low, high = difference.interval()
    assert draws[4] <= low <= draws[5] and draws[194] <= high <= draws[195]
    centre = sum(draws) / 200
    assert difference.p_value == (sum(abs(d - centre) >= abs(difference.observed) for d in draws) + 1) / 201


def test_better_is_significant_equal_is_not():
    rng = np.random.default_rng(2)
    ranks = random_ranks(rng, 400, 0.2)
    better, equal = same_images(ranks, rng, 0.5), same_images(ranks, rng, 0.2)
    sure = paired_bootstrap([[(better, ranks)]])["img_r1"]
    assert sure.p_value < 0.01 and sure.interval()[0] > 0
    unsure = paired_bootstrap([[(equal, ranks)]])["r_mean"]
    assert unsure.p_value > 0.05 and unsure.interval()[0] < 0 < unsure.interval()[1]
    itself = paired_bootstrap([[(ranks, ranks)]])["r_mean"]
    assert (itself.observed, itself.p_value, itself.interval()) == (0, 1, (0, 0))


def test_reversed_pairs_reverse_the_difference(pairs):
    there = paired_bootstrap(pairs, 50)
    back = paired_bootstrap([[(second, first) for first, second in language] for language in pairs], 50)
    for metric in METRICS:
        np.testing.assert_allclose(back[metric].draws, -there[metric].draws, atol=1e-12)


def test_images_drawn_together_are_hard_together():
    """Shared images: two equal languages vary as much as one. Their own images: they average out."""
    rng = np.random.default_rng(3)
    first = random_ranks(rng, 300, 0.3)
    pair = (first, same_images(first, rng, 0.3))
    elsewhere = tuple(QueryRanks(r.images + 1000, r.text_to_image, r.image_ranks, r.text_ranks) for r in pair)
    one, shared, apart = (
        paired_bootstrap([[p] for p in languages])["r_mean"].draws.std()
        for languages in ([pair], [pair, pair], [pair, elsewhere])
    )
    assert shared == pytest.approx(one) and apart == pytest.approx(one / np.sqrt(2), rel=0.15)


def test_accuracies_against_the_definition():
    """Two languages on the same images, one on others; two seeds each; drawn as the definition says: images, with all
    that is asked about them, once or several times."""
    rng = np.random.default_rng(5)
    languages = []
    for n_images, n_texts in ((13, 1), (13, 3), (9, 2)):
        ranks = random_ranks(rng, n_images, 0.2, n_texts=n_texts)
        languages.append([(same_images(ranks, rng, 0.3), same_images(ranks, rng, 0.2)) for _ in range(2)])
    found = paired_accuracy_bootstrap(languages, (1, 5), 60, seed=7)
    rng = np.random.default_rng(7)
    draws = {size: [rng.integers(size, size=size) for _ in range(60)] for size in (13, 9)}
    for draw in range(60):
        for k in (1, 5):
            differences = []
            for language in languages:
                drawn = draws[len(language[0][0].images)][draw]
                for first, second in language:
                    asked = [text for row in drawn for text in np.flatnonzero(first.text_to_image == row)]
                    hits = [np.mean([ranks.text_ranks[text] < k for text in asked]) for ranks in (first, second)]
                    differences.append(100 * (hits[0] - hits[1]))
            assert found[f"top{k}"].draws[draw] == pytest.approx(np.mean(differences), abs=1e-10)
    observed = np.mean([np.mean(a.text_ranks < 1) - np.mean(b.text_ranks < 1) for pair in languages for a, b in pair])
    assert found["top1"].observed == pytest.approx(100 * observed) and list(found) == ["top1", "top5"]
    with pytest.raises(UserError, match="tested on different images"):
        paired_accuracy_bootstrap([[(languages[0][0][0], languages[2][0][0])]], (1,))


def test_wrong_input(pairs):
    (first, second), _ = pairs[0]
    with pytest.raises(UserError, match="different images or captions"):
        paired_bootstrap([[(first, QueryRanks(second.images + 1, *list(vars(second).values())[1:]))]])
    with pytest.raises(UserError, match="at least one resample"):
        paired_bootstrap(pairs, resamples=0)


def test_fast():
    rng = np.random.default_rng(4)
    ranks = random_ranks(rng, 3600, 0.2, n_texts=3)
    pairs = [[(same_images(ranks, rng, 0.2), ranks)] for _ in range(36)]
    start = time.process_time()
    paired_bootstrap(pairs, resamples=1000)
    assert time.process_time() - start < 10
