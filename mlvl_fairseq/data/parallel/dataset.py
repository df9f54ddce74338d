"""Sentence pairs of several directions in one dataset, whose batches have one direction each."""

from typing import Dict, List, Mapping, Optional, Sequence

import numpy as np
from fairseq.data import FairseqDataset, LanguagePairDataset, data_utils

from mlvl_fairseq.data.parallel.directions import Direction
from mlvl_fairseq.data.sampling import DirectionSampler


class ParallelDataset(FairseqDataset):
    """Pairs of all directions, one direction after the other. A batch's direction is that of its pairs, looked up for
    each of them, so that leaving out long pairs cannot mix directions.

    Args:
        datasets: of each direction, in order.
        languages: id of each language that is translated into.
        sampler: what an epoch consists of; None: every pair once, in the order of directions and lengths.
    """

    def __init__(
        self,
        datasets: Mapping[Direction, LanguagePairDataset],
        languages: Mapping[str, int],
        sampler: Optional[DirectionSampler] = None,
    ):
        self.directions, self.datasets = list(datasets), list(datasets.values())
        self.languages, self.sampler, self.epoch = languages, sampler, 1
        self.starts = np.cumsum([0, *map(len, self.datasets)])
        self.src_sizes = np.concatenate([dataset.src_sizes for dataset in self.datasets])
        self.tgt_sizes = np.concatenate([dataset.tgt_sizes for dataset in self.datasets])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def direction_of(self, indices) -> np.ndarray:
        """Position in `directions` of each pair."""
        return np.searchsorted(self.starts, indices, side="right") - 1

    def __getitem__(self, index: int) -> Dict:
        direction = int(self.direction_of(index))
        return {**self.datasets[direction][index - self.starts[direction]], "id": index}

    def collater(self, samples: Sequence[Dict]) -> Dict:
        """fairseq's batch of sentence pairs, ``direction``, its position in `directions`, and ``numbers`` [B], those of
        the pairs within it; ``target_real``, bool array [B, T], which of the targets' tokens are no padding, and
        ``source_lengths``, int64 array [B], how many of a source are none (both stay in memory that Python reads
        without waiting); ``net_input`` also has ``target_lang``, the id of the language to translate into.
        """
        if not samples:
            return {}
        direction = int(self.direction_of(samples[0]["id"]))
        batch = self.datasets[direction].collater(samples)
        batch["direction"] = direction
        sources = batch["net_input"]["src_tokens"].numpy()
        batch["source_lengths"] = (sources != self.datasets[direction].src_dict.pad()).sum(1)
        batch["target_real"] = batch["target"].numpy() != self.datasets[direction].tgt_dict.pad()
        batch["numbers"] = batch["id"] - int(self.starts[direction])
        batch["net_input"]["target_lang"] = self.languages[self.directions[direction].target]
        return batch

    # What epochs and batches consist of.
    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def ordered_indices(self) -> np.ndarray:
        """The pairs of the epoch by direction and length, those of like length in random order where it samples."""
        if self.sampler is None:
            indices = np.arange(len(self))
        else:
            indices = np.concatenate([part + start for part, start in zip(self.sampler.draw(self.epoch), self.starts)])
        return indices[np.lexsort((self.num_tokens_vec(indices), self.direction_of(indices)))]

    def batch_by_size(self, indices: np.ndarray, *args, **options) -> List[np.ndarray]:
        """Batches of one direction each, as large as fairseq's limits let them be."""
        directions = self.direction_of(indices)
        parts = (indices[directions == direction] for direction in np.unique(directions))
        return [batch for part in parts for batch in super(ParallelDataset, self).batch_by_size(part, *args, **options)]

    def filter_indices_by_size(self, indices: np.ndarray, max_sizes):
        """The pairs that are not longer than ``(source, target)``, and the others."""
        return data_utils.filter_paired_dataset_indices_by_size(self.src_sizes, self.tgt_sizes, indices, max_sizes)

    def num_tokens(self, index: int) -> int:
        return int(self.num_tokens_vec(index))

    def num_tokens_vec(self, indices) -> np.ndarray:
        """Length of the longer side of each pair."""
        return np.maximum(self.src_sizes[indices], self.tgt_sizes[indices])

    def size(self, index: int):
        return int(self.src_sizes[index]), int(self.tgt_sizes[index])
