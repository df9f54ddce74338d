"""Ranks of a test: forked processes that talk to each other."""

import multiprocessing
from pathlib import Path
from typing import Any, Callable, List

import torch
import torch.distributed as dist


def run_ranks(work: Callable[[int], Any], folder: Path, number: int = 2) -> List[Any]:
    """What ``work(rank)`` returns on each of so many ranks. `folder`: an empty one."""
    fork = multiprocessing.get_context("fork")  # has imported everything already
    processes = [fork.Process(target=_run_rank, args=(work, rank, number, folder)) for rank in range(number)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=60)
    assert [process.exitcode for process in processes] == [0] * number
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(number)]


def _run_rank(work, rank, number, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=number)
    torch.save(work(rank), folder / f"{rank}.pt")
    dist.destroy_process_group()
