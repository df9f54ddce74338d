"""How many captions of which language make up an epoch, and in which batches."""

import numpy as np
import pytest
from fairseq.data import data_utils

from mlvl_fairseq.data.caption_dataset import whole_batches
from mlvl_fairseq.data.sampling import (
    alternating_epoch,
    alternating_steps,
    apportion,
    mixed_epoch,
    of_rounds,
    one_language_epoch,
    sampling_shares,
)
from mlvl_fairseq.errors import UserError

SIZES = [1000, 100, 10]


def of_languages(epoch, sizes=SIZES):
    return np.searchsorted(np.cumsum(sizes), epoch, side="right")


def test_shares_are_those_of_the_published_sampling():
    """p ~ (n / N) ** (1 / T); fairseq's temperature sampling."""
    n = np.array(SIZES) / sum(SIZES)
    np.testing.assert_allclose(sampling_shares(SIZES, 5), n**0.2 / (n**0.2).sum())
    np.testing.assert_allclose(sampling_shares(SIZES, 1), n)
    np.testing.assert_allclose(sampling_shares(SIZES, 1e9), 1 / 3, rtol=1e-6)


def test_parts_add_up_and_none_is_empty():
    assert apportion(10, np.array([0.55, 0.3, 0.15])).tolist() == [6, 3, 1]  # of 5.5, 3 and 1.5
    assert apportion(3, np.array([0.9, 0.05, 0.05])).tolist() == [3, 1, 1]


@pytest.mark.parametrize("temperature", [1, 5])
def test_a_mixed_epoch_has_every_language_s_share(temperature):
    epoch = mixed_epoch(SIZES, temperature)
    assert len(epoch) == 1110
    expected = 1110 * sampling_shares(SIZES, temperature)
    np.testing.assert_allclose(np.bincount(of_languages(epoch)), expected, atol=1)


def test_without_temperature_every_caption_comes_once():
    assert sorted(mixed_epoch(SIZES, 1)) == list(range(1110))
    assert len(set(whole_batches(mixed_epoch(SIZES, 1), 16))) == 1104


def test_no_caption_comes_again_before_all_of_its_language_have_come():
    counts = np.bincount(mixed_epoch(SIZES, 5), minlength=1110)
    for own in np.split(counts, np.cumsum(SIZES)[:-1]):
        assert own.max() - own.min() <= 1
    assert counts[1100:].min() > 5  # the smallest language


def test_batches_of_one_language():
    epoch = one_language_epoch(SIZES, 5, 16)
    languages = of_languages(epoch).reshape(-1, 16)
    assert (languages == languages[:, :1]).all() and len(np.unique(languages)) == 3
    shares = np.bincount(languages[:, 0]) / len(languages)
    np.testing.assert_allclose(shares, sampling_shares(SIZES, 5), atol=0.02)
    assert (np.diff(languages[:, 0]) != 0).sum() > 10  # in random order


def test_a_language_smaller_than_a_batch_fills_one():
    languages = of_languages(one_language_epoch([100, 3], 1, 8), [100, 3])
    assert np.bincount(languages).tolist() == [96, 8]


@pytest.mark.parametrize("epoch", [mixed_epoch, lambda *of: one_language_epoch(*of, 16)])
def test_an_epoch_follows_the_seed(epoch):
    drawn = []
    for seed in (1, 1, 2):
        with data_utils.numpy_seed(seed):
            drawn.append(epoch(SIZES, 5).tolist())
    assert drawn[0] == drawn[1] != drawn[2]


def test_batches_of_data_sets_alternate():
    """Yang et al. 2024, two training sets: one batch of each in turn, as many as the smaller one has."""
    small, large = alternating_epoch([25, 100], 8, 1, seed=1)
    assert small.shape == large.shape == (3, 8) == (alternating_steps([25, 100], 8), 8)
    assert len(set(small.flat)) == len(set(large.flat)) == 24 and small.max() < 25 and large.max() < 100
    with pytest.raises(UserError, match="a data set has 25 captions, less than a batch of 26"):
        alternating_epoch([25, 100], 26, 1, seed=1)


def test_a_larger_data_set_goes_on_where_it_was():
    """In 25 epochs of 24 of its 100 captions it comes round six times; no epoch is like another."""
    epochs = [alternating_epoch([25, 100], 8, epoch, seed=1)[1].reshape(-1) for epoch in range(1, 26)]
    for round in np.concatenate(epochs).reshape(6, 100):
        assert sorted(round) == list(range(100))
    assert len({tuple(epoch) for epoch in epochs}) == 25
    again = alternating_epoch([25, 100], 8, 7, seed=1)[1]
    assert again.reshape(-1).tolist() == epochs[6].tolist() != alternating_epoch([25, 100], 8, 7, seed=2)[1].tolist()


def test_an_epoch_without_a_batch_of_a_stream_draws_nothing_of_it():
    found = of_rounds(5, np.arange(0), [1])
    assert found.shape == (0,) and found.dtype == np.int64
