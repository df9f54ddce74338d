"""A tower in which nothing trains: what it makes of an input is the same in every epoch, and need be computed once."""

import hashlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Iterator, List, Optional

import numpy as np
import torch
from torch import Tensor

from mlvl_fairseq.checkpoints.source import fingerprint
from mlvl_fairseq.modules.towers.base import Tower

TEXT_BATCH = 64


@dataclass(frozen=True)
class FrozenTower:
    """A tower at work on one input after another.

    Attributes:
        side: ``image`` or ``text``. tower: the module.
    """

    side: str
    tower: Tower

    @property
    def width(self) -> int:
        return self.tower.width

    @property
    def name(self) -> str:
        return type(self.tower).__name__

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of all that its vectors depend on beside the input: weights, and what they do not show."""
        basis = f"{self.name} {getattr(self.tower, 'config', '')} {fingerprint(self.tower.state_dict())}"
        return hashlib.sha256(basis.encode()).hexdigest()

    @contextmanager
    def on(self, device: Optional[str]) -> Iterator[None]:
        """Let the tower compute on a device within this block, without dropout; None: where it is. Random numbers that
        are drawn meanwhile, as loaders of pictures do, are none of the training's."""
        home, mode = next(self.tower.parameters()).device, self.tower.training
        self.tower.eval()
        try:
            if device is not None:
                self.tower.to(device)
            with torch.random.fork_rng():
                yield
        finally:
            self.tower.to(home).train(mode)

    @torch.no_grad()
    def of_images(self, pixels: Tensor) -> Tensor:
        """Pictures [B, 3, H, W] -> vectors float32 [B, width]."""
        return self.tower(pixels.to(next(self.tower.parameters()).device)).vector.float()

    @torch.no_grad()
    def of_captions(self, captions: List[List[int]]) -> List[np.ndarray]:
        """Ids as batches have them -> vectors float32 [1, width]; captions of like length share a batch."""
        device, vectors = next(self.tower.parameters()).device, [np.empty(0)] * len(captions)
        order = np.argsort([len(ids) for ids in captions], kind="stable")
        for start in range(0, len(order), TEXT_BATCH):
            rows = order[start : start + TEXT_BATCH]
            last = torch.tensor([len(captions[row]) - 1 for row in rows])
            tokens = torch.zeros(len(rows), int(last[-1]) + 1, dtype=torch.long)  # what is behind the last has no say
            for own, row in zip(tokens, rows):
                own[: len(captions[row])] = torch.tensor(captions[row])
            found = self.tower(tokens.to(device), last.to(device)).vector.float().cpu().numpy()
            for row, vector in zip(rows, found):
                vectors[row] = vector[None]
        return vectors


def is_frozen(tower: Tower) -> bool:
    """Whether it has weights, and none of them trains."""
    trains = [parameter.requires_grad for parameter in tower.parameters()]
    return bool(trains) and not any(trains)


def draws(tower: Tower) -> bool:
    """Whether its config has dropout or drops branches: in training, it gives another vector each time unless it is put
    to rest."""
    return any(value for name, value in vars(getattr(tower, "config", tower)).items() if "drop" in name)
