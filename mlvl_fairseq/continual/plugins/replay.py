"""What methods of replay share. A method is one file beside this one: a subclass, registered under its name."""

from typing import Dict, NamedTuple

import torch
from torch import Tensor

from mlvl_fairseq.continual.memory.store import Memory
from mlvl_fairseq.continual.plugin import ContinualPlugin
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.losses import feature_mse


class Rows(NamedTuple):
    """Rows of a batch and of a draw from the memory, the batch's first.

    Attributes:
        text, image: features [B + M, D]. ids: image ids [B + M]. replayed: which ones are of the memory.
    """

    text: Tensor
    image: Tensor
    ids: Tensor
    replayed: slice


class ReplayMethod(ContinualPlugin):
    """A way to use the memory, chosen by ``--replay-method NAME``. It says which terms a draw gives
    (:meth:`replay_losses`), and how its rows take part in the contrastive loss (:meth:`cross_modal`).

    Attributes:
        label: what the memory has to keep beside captions, a value of ``--memory-label``.
        is_default: at work with this label where no ``--replay-method`` is given.
        draws: names of the batches that are drawn beside every batch, keys of ``sample["memory"]``.
    """

    family = Memory.name
    switches = {"memory_size": 0, "replay_method": "auto"}
    label = "teacher"
    is_default = False
    draws = ("replay",)

    def __init__(self, cfg, task):
        super().__init__(cfg, task)
        if str(cfg.memory_label) != self.label:
            raise UserError(f"--replay-method {self.name} needs --memory-label {self.label}")

    @classmethod
    def is_active(cls, cfg) -> bool:
        name = str(cfg.replay_method)
        chosen = cls.is_default and str(cfg.memory_label) == cls.label if name == "auto" else name == cls.name
        if chosen and name != "auto" and not cfg.memory_size:
            raise UserError(f"--replay-method {name} needs a memory: give --memory-size")
        return chosen and cfg.memory_size > 0

    @classmethod
    def asked_for_by(cls) -> str:
        return f"--memory-size and --replay-method {cls.name}"

    def begin_run(self, task, model) -> None:
        self.task = task

    def extend_batch(self, sample: Dict) -> Dict:
        batches = {name: self.task.plugins[Memory.name].draw(sample) for name in self.draws}
        if None in batches.values():  # the first language has nothing to replay
            return sample
        return {**sample, "memory": {**sample.get("memory", {}), **batches}}

    def losses(self, model, features, sample):
        return self.replay_losses(features["memory"], sample["memory"]) if self.is_replaying(sample) else {}

    def replay_losses(self, features: Dict[str, Tensor], memory: Dict[str, Dict]):
        """Terms of the loss, see :meth:`ContinualPlugin.losses`.

        Args:
            features: the student's features [n, D] of each draw. memory: the draws, see :meth:`Memory.draw`.
        """
        raise NotImplementedError

    def is_replaying(self, sample: Dict) -> bool:
        return self.draws[0] in sample.get("memory", {})

    @staticmethod
    def rows(features: Dict, sample: Dict, draw: str = "replay") -> Rows:
        """The rows of the batch and of one draw, for the contrastive loss."""
        memory, own = sample["memory"][draw], sample["nsentences"]
        alone = len(sample["memory"]) == 1
        return Rows(
            features["joined"] if alone else torch.cat([features["text"], features["memory"][draw]]),
            torch.cat([features["image"], memory["image_features"]]),
            torch.cat([sample["image_ids"], memory["image_ids"]]),
            slice(own, None),
        )


def mean_distance(features: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of features [n, D], a scalar."""
    return feature_mse(features, target) / len(features)
