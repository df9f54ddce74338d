"""Where an update makes Python wait for a GPU: lines of ours that ask a tensor for its numbers, or how many it picks.

A CPU does not wait, but the calls are the same there, once attention is called as on a GPU. On a GPU torch itself tells
of all of them, copies included.
"""

import contextlib
import inspect
import linecache
import sys
import warnings
from pathlib import Path
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mlvl_fairseq.modules import packing

OURS = Path(__file__).resolve().parents[1] / "mlvl_fairseq"
TORCH = str(Path(torch.__file__).parent)
ASKS = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "equal", "bincount", "is_nonzero"}
INDEXES = {"index", "index_put", "index_put_", "_index_put_impl_"}
METHODS = ("tolist", "cpu")  # which C++ answers by itself


def line_of_ours():
    """``FILE:LINE: CODE`` of ours that calls torch; None: another program does, or a function of ours that says what is
    on a CPU and what is not."""
    frame = sys._getframe(1)
    while frame.f_code.co_filename.startswith(TORCH) or frame.f_code.co_filename == __file__:
        frame = frame.f_back
        if frame is None:
            return None
    path, number = frame.f_code.co_filename, frame.f_lineno
    code = linecache.getline(path, number).strip()
    if not Path(path).is_relative_to(OURS) or '"cpu"' in inspect.getsource(frame.f_code):
        return None
    return f"{Path(path).relative_to(OURS)}:{number}: {code}"


class Watch(TorchDispatchMode):
    """In this context, ``found`` gathers the lines of ours that would wait."""

    def __init__(self):
        super().__init__()
        self.found = []

    def note(self):
        line = line_of_ours()
        if line is not None:
            self.found.append(line)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        picks = name in INDEXES and any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1])
        counts = name == "repeat_interleave" and "output_size" not in (kwargs or {}) and torch.is_tensor(args[-1])
        if name in ASKS or picks or counts:
            self.note()
        return function(*args, **(kwargs or {}))

    @contextlib.contextmanager
    def watching(self):
        def noting(method):
            def ask(tensor, *args, **kwargs):
                self.note()
                return method(tensor, *args, **kwargs)

            return ask

        methods = {name: getattr(torch.Tensor, name) for name in METHODS}
        for name, method in methods.items():
            setattr(torch.Tensor, name, noting(method))
        try:
            with self, patch.object(packing, "GROUPED", ()):
                yield self
        finally:
            for name, method in methods.items():
                setattr(torch.Tensor, name, method)

    @contextlib.contextmanager
    def watching_a_gpu(self):
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = lambda message, *_: "synchroniz" in str(message) and self.note()
            torch.cuda.set_sync_debug_mode("warn")
            try:
                yield
            finally:
                torch.cuda.set_sync_debug_mode("default")


@contextlib.contextmanager
def updates_that_do_not_wait():
    """In this context a training fails in which a line of ours waits, in any update but the first one, which prepares
    what stays."""
    from fairseq.trainer import Trainer

    train_step = Trainer.train_step

    def watched(trainer, *args, **kwargs):
        if trainer.get_num_updates() == 0:
            return train_step(trainer, *args, **kwargs)
        watch = Watch()
        with watch.watching_a_gpu() if trainer.cuda else watch.watching():
            result = train_step(trainer, *args, **kwargs)
        assert not watch.found, "an update waits for the device:\n" + "\n".join(dict.fromkeys(watch.found))
        return result

    Trainer.train_step = watched
    try:
        yield
    finally:
        Trainer.train_step = train_step
