"""What data sets share whose items take alike much work, and are drawn anew in every epoch."""

import numpy as np
from fairseq.data import FairseqDataset


class DrawnDataset(FairseqDataset):
    """Attributes: shuffle: whether the order is random, of numpy's generator as fairseq seeds it. epoch: from 1."""

    shuffle: bool = False
    epoch: int = 1

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def num_tokens(self, index: int) -> int:
        return 1

    def num_tokens_vec(self, indices: np.ndarray) -> np.ndarray:
        """int64 [n]: the same of many, which fairseq would ask for one by one."""
        return np.ones(len(indices), np.int64)

    def size(self, index: int) -> int:
        return 1

    def ordered_indices(self) -> np.ndarray:
        return np.random.permutation(len(self)) if self.shuffle else np.arange(len(self))
