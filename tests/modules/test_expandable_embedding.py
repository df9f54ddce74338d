"""New embedding rows: their distribution, and that they are reproducible."""

import pytest
import torch

from mlvl_fairseq.modules.expandable_embedding import grow_rows

NEW = 100_000


def test_old_rows_are_copied_and_new_ones_follow_the_given_distribution():
    weight = torch.randn(5, 4)
    grown = grow_rows(weight, 5 + NEW, mean=0.3, std=0.02, seed=1)
    assert grown.shape == (5 + NEW, 4) and torch.equal(grown[:5], weight)
    assert grown[5:].mean().item() == pytest.approx(0.3, abs=2e-4)
    assert grown[5:].std().item() == pytest.approx(0.02, rel=0.01)


def test_identical_distribution_is_that_of_all_elements():
    """TEIR: one mean and one unbiased deviation of the whole matrix; with four elements the bias would be 15 %."""
    weight = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    new = grow_rows(weight, 2 + NEW, mean=99, std=-1, seed=1)[2:]
    deviation = (14 / 3) ** 0.5
    assert new.mean().item() == pytest.approx(3, abs=0.03)
    assert new.std().item() == pytest.approx(deviation, rel=0.01)
    assert new.std(dim=0).tolist() == pytest.approx([deviation] * 2, rel=0.02)  # not one a column


def test_rows_follow_the_seed_and_no_other_random_number():
    weight = torch.zeros(3, 4)
    torch.manual_seed(5)
    first = grow_rows(weight, 7, 0, 1, seed=1)
    state = torch.get_rng_state()
    again, other = grow_rows(weight, 7, 0, 1, seed=1), grow_rows(weight, 7, 0, 1, seed=2)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays(dtype):
    grown = grow_rows(torch.ones(2, 2, dtype=dtype), 3000, 0, -1, seed=1)
    assert grown.dtype == dtype and (grown[2:] == 1).all()  # all elements equal: deviation 0


def test_nothing_to_add():
    weight = torch.randn(3, 2)
    assert torch.equal(grow_rows(weight, 3, 0, -1, seed=1), weight)
