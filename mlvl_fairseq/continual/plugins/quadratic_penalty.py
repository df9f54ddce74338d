"""What EWC, MAS and SI share: parameters that mattered are pulled back to where the language before left them."""

from typing import Iterable, Iterator, List, Optional, Tuple

import numpy as np
import torch
from torch import Tensor, nn

from mlvl_fairseq.continual.plugin import ContinualPlugin
from mlvl_fairseq.distributed import sum_over_ranks
from mlvl_fairseq.errors import UserError


class QuadraticPenalty(ContinualPlugin):
    """``scale * sum_i importance_i (p_i - anchor_i)^2`` over all parameters that languages share.

    The anchor is where the previous language ended (new embedding rows: where they start). Importance of new rows is 0.
    A subclass says what importance is. Buffers are named ``importance/<parameter>`` and ``anchor/<parameter>``.
    """

    needs_all_rows = True
    gamma = 1.0

    @property
    def scale(self) -> float:
        """Weight of the penalty."""
        raise NotImplementedError

    def importance_of_previous(self, task, model, parameters: List[nn.Parameter]) -> List[Tensor]:
        """What the previous language adds to the importance of each of `parameters`, float32 of their shapes."""
        raise NotImplementedError

    @property
    def batches(self) -> Tuple[int, int]:
        """How many batches (0: all) of how many captions importance is taken from."""
        raise NotImplementedError

    def previous_batches(self, task, model, title: str) -> Iterator[dict]:
        """The previous language's captions that importance is taken from. Raises UserError: batches have no size."""
        number, size = self.batches
        if size < 1:
            raise UserError(f"{self.name}: importance is taken from batches of at least one caption, not of {size}")
        captions = task.caption_count(task.learned[-1])
        rows = np.linspace(0, captions, min(captions, number * size or captions), endpoint=False).astype(int)
        return task.previous_batches(model, size, title, rows)

    def begin_language(self, task, model) -> None:
        names, parameters = zip(*model.shared_parameters())
        was_training = model.training
        model.eval()
        for name, parameter, own in zip(names, parameters, self.importance_of_previous(task, model, parameters)):
            earlier = self.get("importance", name)
            if earlier is not None:
                own[: len(earlier)] += self.gamma * earlier
            self.set("importance", name, own)
            self.set("anchor", name, parameter.detach().float().clone())
        model.train(was_training)

    def losses(self, model, features, sample):
        parameters = [(name, p) for name, p in model.shared_parameters() if self.get("importance", name) is not None]
        if not parameters:
            return {}
        penalty = sum(
            (self.get("importance", name) * (parameter.float() - self.get("anchor", name)) ** 2).sum()
            for name, parameter in parameters
        )
        return {self.name: (self.scale, penalty)}

    def get(self, kind: str, name: str) -> Optional[Tensor]:
        return self._buffers.get(_buffer_name(kind, name))

    def set(self, kind: str, name: str, value: Tensor) -> None:
        self.register_buffer(_buffer_name(kind, name), value)

    @staticmethod
    def mean(batches: Iterable[List[Tensor]], parameters: List[nn.Parameter]) -> List[Tensor]:
        """Mean over the batches of all ranks; a value that is not finite counts as 0."""
        totals = [torch.zeros_like(parameter, dtype=torch.float32) for parameter in parameters]
        number = torch.zeros((), device=totals[0].device)
        for batch in batches:
            number += 1
            for total, value in zip(totals, batch):
                total += value.nan_to_num(0.0, 0.0, 0.0)
        sum_over_ranks([number, *totals])
        return [total / number for total in totals]


def _buffer_name(kind: str, parameter: str) -> str:
    """Names of buffers must not hold a dot."""
    return f"{kind}/{parameter.replace('.', '/')}"
