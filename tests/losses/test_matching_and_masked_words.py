"""Losses of pairs that match and of masked words, against computations in float64."""

import pytest
import torch

from mlvl_fairseq.losses import masked_lm
from mlvl_fairseq.losses.masked_lm import masked_lm_loss
from mlvl_fairseq.losses.matching import matching_loss

WIDTH, VOCABULARY = 3, 7
LABELS = torch.tensor([[4, 0, -100], [6, -100, -100], [-100, -100, -100], [1, 2, 3]])


def random(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)))


def test_pairs_that_belong_together_come_first_and_some_do_not_count():
    logits = random(6, 2)
    counts = torch.tensor([True, True, True, False, True, False])
    found = matching_loss(logits, counts)
    wanted = [1, 1, 0, None, 0, None]
    rows = [-logits[row].double().log_softmax(0)[label] for row, label in enumerate(wanted) if label is not None]
    assert float(found.mean) == pytest.approx(float(sum(rows)) / 4, rel=1e-6)
    assert found.number == 4


def test_no_pair_counts():
    logits = random(3, 2).requires_grad_()
    found = matching_loss(logits, torch.zeros(3, dtype=torch.bool))
    found.mean.backward()
    assert found.mean == 0 and found.number == 0 and not logits.grad.any()


def masked_words(counts, chunk=None, monkeypatch=None, places=None):
    """The loss, gradients of states and words, and how many rows went through the head at a time."""
    if chunk:
        monkeypatch.setattr(masked_lm, "MAX_LOGITS", chunk * VOCABULARY)
    states, words = random(4, 3, WIDTH).requires_grad_(), random(VOCABULARY, WIDTH).requires_grad_()
    rows = []

    def head(inputs):
        rows.append(len(inputs))
        return inputs @ words.t()

    found = masked_lm_loss(states, LABELS, counts, head, VOCABULARY, places)
    found.mean.backward()
    return found, states.grad, words.grad, rows


def expected(counts):
    states, words = random(4, 3, WIDTH).double().requires_grad_(), random(VOCABULARY, WIDTH).double().requires_grad_()
    losses = [
        -(states[row, place] @ words.t()).log_softmax(0)[LABELS[row, place]]
        for row in range(4)
        for place in range(3)
        if counts[row] and LABELS[row, place] >= 0
    ]
    mean = sum(losses) / len(losses)
    mean.backward()
    return mean, states.grad, words.grad, len(losses)


@pytest.mark.parametrize("counts", [[True] * 4, [True, False, True, True]])
@pytest.mark.parametrize("chunk", [None, 2])
def test_mean_over_masked_words(counts, chunk, monkeypatch):
    found, states, words, rows = masked_words(torch.tensor(counts), chunk, monkeypatch)
    mean, states_expected, words_expected, number = expected(counts)
    assert float(found.mean) == pytest.approx(float(mean), rel=1e-6)
    assert found.number == number
    torch.testing.assert_close(states.double(), states_expected, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(words.double(), words_expected, rtol=1e-5, atol=1e-7)
    assert max(rows) == (chunk or number)
    assert sum(rows) == (2 * number if chunk else number)  # a second time for the gradient


def test_nothing_is_masked():
    found, states, words, _ = masked_words(torch.zeros(4, dtype=torch.bool))
    assert found.mean == 0 and found.number == 0
    assert not states.any() and not words.any()


@pytest.mark.parametrize("counts", [[True] * 4, [True, False, True, True]])
def test_masked_words_at_given_places_are_those_that_are_found(counts, monkeypatch):
    counts, places = torch.tensor(counts), torch.tensor([0, 1, 3, 9, 10, 11])
    (found, states, words, _), (given, *gradients, rows) = masked_words(counts), masked_words(counts, places=places)
    assert given.number == found.number and rows == [6]
    torch.testing.assert_close(given.total, found.total)
    torch.testing.assert_close(gradients, [states, words])
