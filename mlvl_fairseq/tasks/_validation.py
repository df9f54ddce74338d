"""Recall over a validation set that arrives in batches, on one or several ranks."""

from typing import Dict, List

import torch

from mlvl_fairseq.evaluation.retrieval import retrieval_scores
from mlvl_fairseq.losses import gather_with_grad


class RecallCollector:
    """Keeps the features of every validation batch until the whole set can be ranked."""

    def __init__(self):
        self._batches: List[tuple] = []

    def add(self, ids: torch.Tensor, image_ids: torch.Tensor, features: Dict[str, torch.Tensor]) -> None:
        """Caption ids [B], image ids [B] and ``text`` and ``image`` features [B, D] of one batch."""
        self._batches.append((ids, image_ids, features["text"].float(), features["image"].float()))

    def scores(self) -> Dict[str, float]:
        """Recalls in % over all batches of all ranks; captions and images that came twice count once."""
        columns = [gather_with_grad(torch.cat(column)).cpu() for column in zip(*self._batches)]
        ids, image_ids, text, image = (column.numpy() for column in columns)
        _, captions = _unique_rows(ids)
        images, image_rows = _unique_rows(image_ids)
        text_to_image = images.searchsorted(image_ids[captions])
        return retrieval_scores(image[image_rows], text[captions], text_to_image)


def _unique_rows(values):
    """Sorted distinct values and the first row of each."""
    import numpy as np

    return np.unique(values, return_index=True)
