"""Batches larger than memory: rows go through a function a chunk at a time, with the gradients of the whole batch.

What is kept of a chunk is its input and output; when its gradient is due, it is computed again. That is the cached
gradient of Gao et al. 2021 (GradCache), with the outputs of all chunks in one graph, so that the loss sees the batch.
"""

from dataclasses import dataclass, field
from typing import Callable, Dict, List, Sequence, Union

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mlvl_fairseq.errors import UserError


@dataclass
class ChunkOptions:
    """Options of every model that can encode a batch in chunks."""

    encode_chunk: int = field(
        default=0,
        metadata={
            "help": "take so many rows of a batch (captions and images, or sentence pairs) through the model at a "
            "time; 0: all at once. The encoders' activations then follow this number, not the --batch-size, with the "
            "same gradients, and one more forward pass; the batch itself and one vector a row stay. This is how a "
            "contrastive loss gets a large batch: --update-freq adds up the losses of small batches, whose rows are no "
            "negatives of each other"
        },
    )

    @staticmethod
    def checked(options) -> int:
        """Rows at a time. Raises UserError: it is no number of rows."""
        if options.encode_chunk < 0:
            raise UserError(f"--encode-chunk {options.encode_chunk} is no number of rows; 0 encodes all at once")
        return options.encode_chunk


Output = Union[Tensor, Dict[str, "Output"]]
PerRow = Union[Tensor, np.ndarray, None]


def in_chunks(function: Callable[..., Output], tensors: Sequence[PerRow], size: int) -> Output:
    """``function(*tensors)`` with the memory of `size` rows, at the price of one more forward pass.

    Gradients are exact, to the inputs as well as to whatever parameters `function` uses. Random numbers are drawn chunk
    after chunk, and again the same ones when a chunk is computed the second time.

    Args:
        function: takes chunks [size, ...] of all tensors; its rows must not depend on each other. It runs twice, so it
            must not change anything but its result, nor talk to other ranks.
        tensors: each [B, ...]; also arrays, and None, which every chunk has for itself.
        size: rows of a chunk; 0: all at once.

    Returns:
        what `function` returns, its tensors [size, ...] concatenated to [B, ...], also those in (nested) dictionaries.
        A scalar is taken for a mean over rows and becomes the mean over all.
    """
    if size <= 0:  # before anything is counted, which an exported graph would keep
        return function(*tensors)
    rows = len(tensors[0])
    if rows <= size:
        return function(*tensors)
    chunks = list(zip(*(_split(own, rows, size) for own in tensors), strict=True))
    outputs = [checkpoint(function, *chunk, use_reentrant=False) for chunk in chunks]
    return _join(outputs, [len(chunk[0]) / rows for chunk in chunks])


def _split(own: PerRow, rows: int, size: int) -> Sequence[PerRow]:
    bounds = range(size, rows, size)
    if own is None:
        return [None] * (len(bounds) + 1)
    return own.split(size) if isinstance(own, Tensor) else np.split(own, bounds)


def _join(outputs: List[Output], shares: List[float]) -> Output:
    """One output from those of chunks, which have these shares of all rows."""
    first = outputs[0]
    if isinstance(first, dict):
        return {key: _join([output[key] for output in outputs], shares) for key in first}
    if first.dim() == 0:
        return sum(share * output for share, output in zip(shares, outputs))
    return torch.cat(outputs)
