"""Steps of trainings that are compared: their CPU time, in turn, and the memory that they take."""

import ctypes
import gc
import time
from typing import Callable, Dict, List, NamedTuple, Sequence, Tuple

import numpy as np
import torch
from peak_memory import measure
from torch import Tensor, nn

from mlvl_fairseq.modules.precision import bfloat16_products


class Trainee(NamedTuple):
    """A model, the mean loss of a batch, and an optimizer; whether products are in bfloat16, as by ``--autocast``."""

    model: nn.Module
    loss: Callable[[Dict], Tensor]
    optimizer: torch.optim.Optimizer
    in_bfloat16: bool = False

    def step(self, batch: Dict) -> tuple:
        """CPU seconds and loss."""
        began = time.process_time()
        self.optimizer.zero_grad()
        with bfloat16_products(torch.device("cpu"), self.in_bfloat16):
            loss = self.loss(batch)
        loss.backward()
        self.optimizer.step()
        return time.process_time() - began, loss.item()


def memory_of(make: Callable[[], Trainee], batches: Sequence[Dict]) -> float:
    """MiB that a step of each batch takes beside the model, at most, in a process of its own."""

    def work(start: Callable[[], None]) -> None:
        trainee = make()
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # what making it has freed would hide what the steps take
        start()
        for batch in batches:
            trainee.step(batch)

    return measure(work).extra_mib


def steps_in_turn(trainees: List[Tuple[Trainee, Sequence[Dict]]]) -> Tuple[List[float], np.ndarray]:
    """Train each on its own batches, of which there are as many.

    Returns:
        the losses of the first batch, before which weights are what they were, and the CPU seconds of the others,
        float64 [trainees, batches - 1]: the first step allocates.
    """
    count = len(trainees[0][1])
    steps = [[trainee.step(batches[number]) for trainee, batches in trainees] for number in range(count)]
    return [loss for _, loss in steps[0]], np.array([[seconds for seconds, _ in step] for step in steps[1:]]).T


def against(first: np.ndarray, second: np.ndarray, mibs: Tuple[float, float]) -> str:
    """Cells of a table: median seconds of both and of their ratios, then MiB of both and their ratio."""
    times = f"{np.median(first):.2f} | {np.median(second):.2f} | **{np.median(first / second):.3f}**"
    return f"{times} | {mibs[0]:,.0f} | {mibs[1]:,.0f} | **{mibs[0] / mibs[1]:.3f}**"
