"""Recall over a validation set that arrives in batches, on one or several ranks."""

import math
from typing import Dict, List, Tuple

import numpy as np
import torch

from mlvl_fairseq.evaluation.retrieval import retrieval_scores
from mlvl_fairseq.losses import gather_with_grad


class RecallCollector:
    """Keeps the features of every validation batch until the whole set can be ranked."""

    def __init__(self):
        self._batches: List[Tuple[torch.Tensor, ...]] = []
        self._scores: Dict[str, float] = {}
        self._ranked_batches, self._logged = 0, 0.0

    def add(self, ids: torch.Tensor, image_ids: torch.Tensor, features: Dict[str, torch.Tensor]) -> None:
        """Caption ids [B], image ids [B], ``text`` and ``image`` features [B, D] of one batch."""
        self._batches.append((ids, image_ids, features["text"].float(), features["image"].float()))

    def count(self, logging_outputs: List[Dict]) -> None:
        """Keep up with the captions that all ranks have logged."""
        self._logged += sum(float(log.get("sample_size", 0)) for log in logging_outputs)

    def score(self, name: str, meters) -> float:
        """One recall (or ``r_mean``) in %, over all batches of all ranks; NaN for the meters of a single batch.

        fairseq asks after every batch for that batch's statistics and at the end for those of the whole pass; only
        the latter have seen every caption.
        """
        if meters["loss"].count < self._logged:
            return math.nan
        if self._ranked_batches != len(self._batches):
            self._scores, self._ranked_batches = self._rank(), len(self._batches)
        return round(self._scores[name], 3)

    def _rank(self) -> Dict[str, float]:
        """Scores of the whole set; captions and images that came twice (padding of ranks) count once."""
        columns = [gather_with_grad(torch.cat(column)).cpu() for column in zip(*self._batches)]
        ids, image_ids, text, image = (column.numpy() for column in columns)
        _, captions = np.unique(ids, return_index=True)
        images, image_rows = np.unique(image_ids, return_index=True)
        return retrieval_scores(image[image_rows], text[captions], images.searchsorted(image_ids[captions]))
