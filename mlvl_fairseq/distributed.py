"""What ranks exchange: rows with gradients (what makes N ranks equal to one process with N times the batch), sums, and
Python values."""

from typing import List

import torch
import torch.distributed as dist
from torch import Tensor


class GatheredRows:
    """Where the rows of this rank are among those of all ranks, and a way to get them all.

    Making one is a collective operation: every rank has to take part, also one without rows.

    Args:
        local: tensor with as many rows as this rank has, on their device.

    Attributes:
        sizes: number of rows of each rank. first: how many rows the ranks before this one have.
    """

    def __init__(self, local: Tensor):
        alone = not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1
        self.sizes = [len(local)] if alone else _sizes(local)
        self.first = 0 if alone else sum(self.sizes[: dist.get_rank()])

    def __call__(self, local: Tensor) -> Tensor:
        """Concatenate the [B, ...] tensors of all ranks in the order of ranks. Without other ranks: the input itself.

        The gradient of a rank's rows is the sum of what all ranks send back, so with losses averaged over ranks (as
        data-parallel training does) it equals the gradient in one process.
        """
        return local if len(self.sizes) == 1 else _Gather.apply(local, self.sizes, self.first)


def gather_with_grad(local: Tensor) -> Tensor:
    """The [B, ...] tensors of all ranks as :class:`GatheredRows` concatenates them; B may differ from rank to rank."""
    return GatheredRows(local)(local)


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
    mine = torch.tensor([len(local)], device=local.device)
    sizes = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(sizes, mine)
    return [int(size) for size in sizes]
