"""What two ranks exchange, and what one process has that is alone."""

import math
import multiprocessing
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

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


def run_rank(number, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=number, world_size=2)
    with first_rank_first():
        time.sleep(0.3 * (1 - number))
        there = Path(folder, "made").exists()
        Path(folder, "made").touch()
    torch.save({**exchange(number), "was there": there}, f"{folder}/{number}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def exchanged(tmp_path_factory):
    """What each of two ranks has."""
    folder = tmp_path_factory.mktemp("ranks")
    fork = multiprocessing.get_context("fork")  # has imported everything already
    processes = [fork.Process(target=run_rank, args=(number, folder)) for number in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=60)
    assert [process.exitcode for process in processes] == [0, 0]
    return [torch.load(folder / f"{number}.pt") for number in range(2)]


def test_every_rank_has_what_all_gave(exchanged):
    for number, found in enumerate(exchanged):
        assert found["place"] == (number, 2)
        assert found["sums"] == [[4.5, 6.0], 30]
        assert found["values"] == [*VALUES[0], *VALUES[1]]
        assert found["values of the first rank only"] == [["a", 1]]
        assert found["no values"] == []
        assert found["was there"] is (number == 1)


def test_alone():
    assert exchange(0) == {
        "place": (0, 1),
        "sums": [[1.5, 2.0], 10],
        "values": VALUES[0],
        "values of the first rank only": [["a", 1]],
        "no values": [],
    }
