"""The contrastive loss over several ranks is the loss of one process with all rows, gradients included."""

import itertools
import multiprocessing

import pytest
import torch
import torch.distributed as dist

from mlvl_fairseq.losses import contrastive_loss, gather_with_grad

ROWS = {2: (5, 2), 3: (1, 4, 2)}


def batch():
    generator = torch.Generator().manual_seed(3)
    text, image = torch.randn(7, 6, generator=generator), torch.randn(7, 6, generator=generator)
    return text, image, torch.tensor([1, 2, 1, 3, 2, 1, 4])


def run(rows, gather):
    """Loss summed over `rows`, and gradients of two encoders and a temperature."""
    torch.manual_seed(0)
    text_tower, image_tower = torch.nn.Linear(6, 4), torch.nn.Linear(6, 4)
    temperature = torch.tensor(0.2, requires_grad=True)
    text, image, ids = (column[rows] for column in batch())
    loss = contrastive_loss(text_tower(text), image_tower(image), temperature, ids, gather=gather)
    loss.backward()
    parameters = [*text_tower.parameters(), *image_tower.parameters(), temperature]
    return [loss.detach(), *(parameter.grad for parameter in parameters)]


def run_rank(rank, sizes, folder):
    """Save what one rank has after its losses and gradients were averaged, and what it gathered."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=len(sizes))
    ends = [0, *itertools.accumulate(sizes)]
    rows = slice(ends[rank], ends[rank + 1])
    results = run(rows, gather=True)
    for result in results:
        dist.all_reduce(result)
        result /= len(sizes)  # as data-parallel training does
    torch.save({"results": results, "ids": gather_with_grad(batch()[2][rows])}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_equal_one_process(ranks, tmp_path):
    fork = multiprocessing.get_context("fork")  # has imported everything already
    processes = [fork.Process(target=run_rank, args=(rank, ROWS[ranks], tmp_path)) for rank in range(ranks)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=60)
    assert [process.exitcode for process in processes] == [0] * ranks
    expected = run(slice(None), gather=False)
    for rank in range(ranks):
        saved = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert saved["ids"].tolist() == batch()[2].tolist()
        for average, whole in zip(saved["results"], expected, strict=True):
            # A mean over the batch is what is trained on: sums over ranks, divided by all rows.
            torch.testing.assert_close(average * ranks / 7, whole / 7, rtol=0, atol=1e-6)
