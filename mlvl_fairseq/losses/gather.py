"""Rows of all ranks in one tensor, with gradients: what makes N ranks equal to one process with N times the batch."""

import torch
import torch.distributed as dist
from torch import Tensor


def gather_with_grad(local: Tensor) -> Tensor:
    """Concatenate the [B, ...] tensors of all ranks in the order of ranks; B may differ from rank to rank.

    The gradient of a rank's rows is the sum of what all ranks send back, so with losses averaged over ranks (as
    data-parallel training does) it equals the gradient in one process. Without torch.distributed: the input itself.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return local
    return _Gather.apply(local)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, local: Tensor) -> Tensor:
        sizes = _sizes(local)
        ctx.start, ctx.rows = sum(sizes[: dist.get_rank()]), len(local)
        padded = local.new_zeros(max(sizes), *local.shape[1:])
        padded[: len(local)] = local
        blocks = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(blocks, padded)
        return torch.cat([block[:size] for block, size in zip(blocks, sizes)])

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        grad = grad.contiguous()
        dist.all_reduce(grad)
        return grad[ctx.start : ctx.start + ctx.rows]


def _sizes(local: Tensor):
    mine = torch.tensor([len(local)], device=local.device)
    sizes = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(sizes, mine)
    return [int(size) for size in sizes]
