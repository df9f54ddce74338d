"""Chunks give the gradients of the whole batch, with dropout, in the memory of one chunk."""

import weakref

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mlvl_fairseq.modules.chunking import in_chunks

ROWS, WIDTH = 10, 6


def new_tower(dropout, width=WIDTH, layers=3):
    torch.manual_seed(0)
    blocks = [nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Dropout(dropout)) for _ in range(layers)]
    return nn.Sequential(*blocks).double()


def encode(tower):
    """A function of two tensors whose result is nested, with a mean over rows in it."""

    def function(x, shift):
        hidden = tower(x + shift)
        return {"features": hidden, "more": {"squares": hidden.square(), "mean": hidden.sum(dim=1).mean()}}

    return function


def without_checkpoints(function, tensors, size):
    """The same chunks, everything kept."""
    outputs = [function(*chunk) for chunk in zip(*(tensor.split(size) for tensor in tensors))]
    rows = [len(output["features"]) for output in outputs]
    mean = sum(n * output["more"]["mean"] for n, output in zip(rows, outputs)) / sum(rows)
    squares = torch.cat([output["more"]["squares"] for output in outputs])
    features = torch.cat([output["features"] for output in outputs])
    return {"features": features, "more": {"squares": squares, "mean": mean}}


def results(run, dropout, size, seed=1):
    """Output, and gradients of inputs and parameters, of a loss that couples all rows."""
    tower = new_tower(dropout)
    generator = torch.Generator().manual_seed(2)
    tensors = [torch.randn(ROWS, WIDTH, generator=generator).double().requires_grad_() for _ in range(2)]
    torch.manual_seed(seed)
    output = run(encode(tower), tensors, size)
    features, squares, mean = output["features"], output["more"]["squares"], output["more"]["mean"]
    similarities = features @ features.t()
    loss = similarities.logsumexp(dim=1).sum() + (squares @ squares.t()).mean() + 3 * mean
    loss.backward()
    leaves = [*tensors, *tower.parameters()]
    return [features.detach(), squares.detach(), mean.detach(), *(leaf.grad for leaf in leaves)]


@pytest.mark.parametrize("size", [1, 3, 5, 9])
def test_without_dropout_chunks_change_nothing(size):
    whole = results(in_chunks, 0.0, 0)
    for chunked, expected in zip(results(in_chunks, 0.0, size), whole, strict=True):
        torch.testing.assert_close(chunked, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("size", [3, 5])
def test_dropout_is_the_same_when_a_chunk_is_computed_again(size):
    kept = results(without_checkpoints, 0.4, size)
    for chunked, expected in zip(results(in_chunks, 0.4, size), kept, strict=True):
        torch.testing.assert_close(chunked, expected, rtol=1e-12, atol=1e-13)  # sums over chunks differ in order
    other = results(without_checkpoints, 0.4, size, seed=2)
    assert not any(torch.allclose(first, second) for first, second in zip(kept, other))  # there is dropout


@pytest.mark.parametrize("size", [3, 5, 9, 10])
def test_chunks_have_their_own_rows_of_arrays_too(size):
    given, seen = (torch.arange(ROWS), np.arange(ROWS), None, torch.arange(ROWS) % 2), []
    in_chunks(lambda *own: seen.append(own) or own[0], given, size)
    expected = np.split(np.arange(ROWS), range(size, ROWS, size))
    assert [[own if own is None else own.tolist() for own in chunk] for chunk in seen] == [
        [rows.tolist(), rows.tolist(), None, (rows % 2).tolist()] for rows in expected
    ]
    assert all(isinstance(chunk[1], np.ndarray) for chunk in seen)


def test_random_numbers_go_on_where_the_forward_pass_left_them():
    tower, x = new_tower(0.4), torch.randn(ROWS, WIDTH).double()
    torch.manual_seed(1)
    output = in_chunks(tower, (x,), 4)
    expected = torch.get_rng_state()
    output.sum().backward()
    assert torch.equal(torch.get_rng_state(), expected)


class Calls:
    """A tower that remembers how many rows it was given each time."""

    def __init__(self, tower):
        self.tower, self.rows = tower, []

    def __call__(self, x):
        self.rows.append(len(x))
        return self.tower(x)


@pytest.mark.parametrize("size, forward, backward", [
    (0, [10], []), (10, [10], []), (12, [10], []), (4, [4, 4, 2], [2, 4, 4])
])  # fmt: skip
def test_a_second_forward_pass_is_paid_for_chunks_only(size, forward, backward):
    calls = Calls(new_tower(0.0))
    output = in_chunks(calls, (torch.randn(ROWS, WIDTH).double(),), size)
    assert calls.rows == forward
    output.sum().backward()
    assert calls.rows == forward + backward


@pytest.mark.parametrize("frozen", [False, True])
def test_what_needs_no_gradient_is_computed_once(frozen):
    calls = Calls(new_tower(0.0).requires_grad_(not frozen))
    head = nn.Linear(WIDTH, 1).double()
    with torch.set_grad_enabled(frozen):
        output = in_chunks(calls, (torch.randn(ROWS, WIDTH).double(),), 4)
    head(output).sum().backward()
    assert calls.rows == [4, 4, 2] and not output.requires_grad


class LiveBytes(TorchDispatchMode):
    """Bytes of the tensors that were made within this context and still live; `peak` is the most there were."""

    def __init__(self, made_before):
        super().__init__()
        self.live = self.peak = 0
        self._known = weakref.WeakSet(tensor.untyped_storage() for tensor in made_before)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(output):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return output

    def _count(self, storage):
        if storage in self._known:
            return
        self._known.add(storage)
        self.live += storage.nbytes()
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._release, storage.nbytes())

    def _release(self, size):
        self.live -= size


def memory(size, rows=512, width=16, layers=8):
    """Bytes that the forward pass leaves behind, and the most at once in forward and backward pass, in units of the
    result's."""
    tower, x = new_tower(0.1, width, layers), torch.randn(rows, width).double()
    for parameter in tower.parameters():
        parameter.grad = torch.zeros_like(parameter)
    with LiveBytes([x, *tower.parameters()]) as counter:
        output = in_chunks(tower, (x,), size)
        kept = counter.live
        output.square().sum().backward()
    unit = output.nbytes
    return kept / unit, counter.peak / unit


def test_memory_is_that_of_one_chunk():
    kept, peak = memory(0)
    assert kept > 2 * 8 and peak > kept  # what Tanh and dropout keep in each of eight layers
    kept, chunked_peak = memory(64)
    assert kept == 1  # the result and nothing else
    assert chunked_peak < 4 + peak / 8  # the result and its gradient, and a chunk's share of everything
    assert memory(64, rows=1024)[1] < 4 + peak / 16  # of twice the rows the share is half
