"""What ranks exchange: rows with gradients (what makes N ranks equal to one process with N times the batch), sums, and
Python values.

A process on its own is rank 0 of 1: everything here works there, too, and exchanges nothing.
"""

import json
from contextlib import contextmanager
from typing import Iterable, Iterator, List, Sequence

import torch
import torch.distributed as dist
from torch import Tensor


def rank() -> int:
    """This process's number among the ranks, from 0."""
    return dist.get_rank() if _is_initialized() else 0


def world_size() -> int:
    """How many ranks there are."""
    return dist.get_world_size() if _is_initialized() else 1


def _is_initialized() -> bool:
    return dist.is_available() and dist.is_initialized()


def sum_over_ranks(tensors: Iterable[Tensor]) -> None:
    """Add up each of the tensors over all ranks, in place and without gradients. A collective operation: every rank has
    to take part with tensors of the same shapes and types, in the same order."""
    if world_size() > 1:
        for tensor in tensors:
            dist.all_reduce(tensor)


def gather_values(values: Sequence) -> list:
    """The values of all ranks in the order of ranks; any number from each. A collective operation.

    Args:
        values: of this rank; what JSON can hold (a tuple arrives as a list). JSON rather than pickle, which would run
            what it receives.
    """
    if world_size() == 1:
        return json.loads(json.dumps(list(values)))
    own = torch.frombuffer(bytearray(json.dumps(list(values)).encode()), dtype=torch.uint8)
    if dist.get_backend() == "nccl":  # it knows GPUs only
        own = own.cuda()
    rows = GatheredRows(own)
    return [value for part in rows(own).cpu().split(rows.sizes) for value in json.loads(bytes(part.numpy()))]


def on_any_rank(fact: bool) -> bool:
    """Whether it is so on any of the ranks. A collective operation."""
    if world_size() == 1:
        return fact
    found = torch.tensor(int(fact), device="cuda" if dist.get_backend() == "nccl" else "cpu")
    dist.all_reduce(found)
    return bool(found)


@contextmanager
def first_rank_first() -> Iterator[None]:
    """The first rank goes through it before the others begin, which find what it has written; if it fails, they try,
    too. A collective operation."""
    if rank():
        gather_values([])
    try:
        yield
    finally:
        if not rank():
            gather_values([])


class GatheredRows:
    """Where the rows of this rank are among those of all ranks, and a way to get them all.

    Making one is a collective operation: every rank has to take part, also one without rows.

    Args:
        local: tensor with as many rows as this rank has, on their device.

    Attributes:
        sizes: number of rows of each rank. first: how many rows the ranks before this one have.
    """

    def __init__(self, local: Tensor):
        self.sizes = _sizes(local)
        self.first = sum(self.sizes[: rank()])

    def __call__(self, local: Tensor) -> Tensor:
        """Concatenate the [B, ...] tensors of all ranks in the order of ranks. Without other ranks: the input itself.

        The gradient of a rank's rows is the sum of what all ranks send back, so with losses averaged over ranks (as
        data-parallel training does) it equals the gradient in one process.
        """
        return local if len(self.sizes) == 1 else _Gather.apply(local, self.sizes, self.first)


def gather_with_grad(local: Tensor) -> Tensor:
    """The [B, ...] tensors of all ranks as :class:`GatheredRows` concatenates them; B may differ from rank to rank."""
    return GatheredRows(local)(local)


def scale_gradient(tensor: Tensor, factor: float) -> Tensor:
    """The tensor, whose gradient is multiplied on its way back."""
    return tensor if factor == 1 else _ScaleGradient.apply(tensor, factor)


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx, grad: Tensor):
        return grad * ctx.factor, None


class FetchedRows:
    """A way to get some rows of other ranks, and no more than those. Making one is a collective operation.

    Args:
        wanted: int64 [R], as numbers among the rows of all ranks. sizes: how many rows each rank has.
    """

    def __init__(self, wanted: Tensor, sizes: List[int]):
        firsts = torch.tensor([0, *sizes], device=wanted.device).cumsum(0)
        owner = torch.bucketize(wanted, firsts[1:], right=True)
        order = owner.argsort(stable=True)
        self._back = order.argsort()
        counts = torch.bincount(owner, minlength=len(sizes))
        asked = torch.empty_like(counts)
        dist.all_to_all_single(asked, counts)
        self._received, self._sent = counts.tolist(), asked.tolist()
        self._rows = _exchange((wanted - firsts[owner])[order], self._sent, self._received)

    def __call__(self, local: Tensor) -> Tensor:
        """[B, ...] of this rank -> the wanted rows [R, ...]. Each rank has to take part with the same shape of a row.
        Gradients go back to where a row came from, and are added up there."""
        return _Exchange.apply(local[self._rows], self._received, self._sent)[self._back]


def _exchange(rows: Tensor, received: List[int], sent: List[int]) -> Tensor:
    """The first ``sent[0]`` rows go to rank 0, the next ones to rank 1 and so on; what comes is in this order, too."""
    out = rows.new_empty(sum(received), *rows.shape[1:])
    dist.all_to_all_single(out, rows.contiguous(), received, sent)
    return out


class _Exchange(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows: Tensor, received: List[int], sent: List[int]) -> Tensor:
        ctx.received, ctx.sent = received, sent
        return _exchange(rows, received, sent)

    @staticmethod
    def backward(ctx, grad: Tensor):
        return _exchange(grad, ctx.sent, ctx.received), None, None


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, local: Tensor, sizes: List[int], first: int) -> Tensor:
        ctx.first, ctx.rows = first, len(local)
        padded = local.new_zeros(max(sizes), *local.shape[1:])
        padded[: len(local)] = local
        blocks = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(blocks, padded)
        return torch.cat([block[:size] for block, size in zip(blocks, sizes)])

    @staticmethod
    def backward(ctx, grad: Tensor):
        grad = grad.contiguous()
        dist.all_reduce(grad)
        return grad[ctx.first : ctx.first + ctx.rows], None, None


def _sizes(local: Tensor) -> List[int]:
    if world_size() == 1:
        return [len(local)]
    mine = torch.tensor([len(local)], device=local.device)
    sizes = [torch.empty_like(mine) for _ in range(world_size())]
    dist.all_gather(sizes, mine)
    return [int(size) for size in sizes]
