"""What two ranks exchange, and what one process has that is alone."""

import math
import time

import pytest
import torch
from ranks import run_ranks

from mlvl_fairseq.distributed import first_rank_first, gather_values, rank, sum_over_ranks, world_size

VALUES = {0: [["de", 3, "Wörter\n"], {"bleu": math.inf}], 1: [None]}  # of each rank


def exchange(number):
    """What rank `number` has after every exchange."""
    tensors = [torch.tensor([1.5, 2.0]) * (number + 1), torch.tensor(10 * (number + 1))]
    sum_over_ranks(tensors)
    return {
        "place": (rank(), world_size()),
        "sums": [tensor.tolist() for tensor in tensors],
        "values": gather_values(VALUES[number]),
        "values of the first rank only": gather_values([("a", 1)] if number == 0 else []),
        "no values": gather_values([]),
    }


@pytest.fixture(scope="module")
def exchanged(tmp_path_factory):
    """What each of two ranks has."""
    return run_ranks(exchange, tmp_path_factory.mktemp("ranks"))


def test_every_rank_has_what_all_gave(exchanged):
    for number, found in enumerate(exchanged):
        assert found["place"] == (number, 2)
        assert found["sums"] == [[4.5, 6.0], 30]
        assert found["values"] == [*VALUES[0], *VALUES[1]]
        assert found["values of the first rank only"] == [["a", 1]]
        assert found["no values"] == []


def test_alone():
    assert exchange(0) == {
        "place": (0, 1),
        "sums": [[1.5, 2.0], 10],
        "values": VALUES[0],
        "values of the first rank only": [["a", 1]],
        "no values": [],
    }


def test_the_first_rank_goes_first(tmp_path):
    def enter(number):
        with first_rank_first():
            time.sleep(0.3 * (1 - number))  # which would let the other one in before it
            there = (tmp_path / "made").exists()
            (tmp_path / "made").touch()
        return there

    assert run_ranks(enter, tmp_path) == [False, True]
