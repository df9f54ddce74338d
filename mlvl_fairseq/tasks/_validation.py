"""Scores of a whole validation set, whatever its batches and ranks; retrieval's among them."""

import math
from abc import ABC, abstractmethod
from functools import partial
from typing import Dict, List, Sequence, Tuple

import numpy as np
import torch
from fairseq.logging import metrics

from mlvl_fairseq.distributed import gather_with_grad
from mlvl_fairseq.evaluation.metrics.retrieval import METRICS, retrieval_scores


class ValidationScores(ABC):
    """Lets fairseq log scores that are computed once all batches of a validation set are through.

    Attributes:
        names: of the scores.
    """

    names: List[str] = []

    def __init__(self):
        self._scores: Dict[str, float] = {}
        self._logged = self._computed = 0.0

    @abstractmethod
    def compute(self) -> Dict[str, float]:
        """Scores of all batches of all ranks by name. Every rank takes part, and gets the same."""

    def log(self, logging_outputs: List[Dict]) -> None:
        """For ``reduce_metrics``, with what all ranks have logged of a batch: `names` are metrics like any other."""
        self._logged += sum(float(log.get("sample_size", 0)) for log in logging_outputs)
        for name in self.names:
            metrics.log_derived(name, partial(self.score, name))

    def score(self, name: str, meters) -> float:
        """One score over all batches; NaN for the meters of a single batch, and where there is none.

        fairseq asks after every batch for that batch's statistics and at the end for those of the whole pass; only
        the latter have seen every row.
        """
        if meters["loss"].count < self._logged:
            return math.nan
        if self._computed != self._logged:
            self._scores, self._computed = self.compute(), self._logged
        return round(self._scores.get(name, math.nan), 3)


class RecallScores(ValidationScores):
    """Keeps the features of every validation batch until the whole set can be ranked.

    Args:
        languages: rank the captions of each language apart (``lang_ids`` of the batches say which is whose); scores are
            averages over languages, and ``r_mean_<language>`` is each one's mean. None: captions are of one kind.
        kinds: key of the batches that says whose captions are, where it is not languages that are ranked apart.
    """

    def __init__(self, languages: Sequence[str] = (), kinds: str = "lang_ids"):
        super().__init__()
        self.languages, self.kinds = list(languages), kinds
        self.names = [*METRICS, *(f"r_mean_{lang}" for lang in self.languages)]
        self._batches: List[Tuple[torch.Tensor, ...]] = []

    def add(self, sample: Dict, features: Dict[str, torch.Tensor]) -> None:
        """A batch, and its ``text`` and ``image`` features [B, D]."""
        languages = sample.get(self.kinds, torch.zeros_like(sample["id"]))
        text, image = features["text"].float(), features["image"].float()
        self._batches.append((sample["id"], sample["image_ids"], languages, text, image))

    def compute(self) -> Dict[str, float]:
        """Recalls (and ``r_mean``) in %; captions and images that came twice (padding of ranks) count once."""
        columns = [gather_with_grad(torch.cat(column)).cpu() for column in zip(*self._batches)]
        ids, image_ids, languages, text, image = (column.numpy() for column in columns)
        _, captions = np.unique(ids, return_index=True)
        scores = [
            _recalls(image_ids, text, image, captions[languages[captions] == lang])
            for lang in range(len(self.languages) or 1)
        ]
        means = {name: float(np.mean([one[name] for one in scores])) for name in METRICS}
        return {**means, **{f"r_mean_{lang}": one["r_mean"] for lang, one in zip(self.languages, scores)}}


def _recalls(image_ids: np.ndarray, text: np.ndarray, image: np.ndarray, captions: np.ndarray) -> Dict[str, float]:
    """Recalls of some rows: their captions and images, each image once. NaN where a language has not come yet."""
    if not len(captions):
        return dict.fromkeys(METRICS, math.nan)
    images, rows = np.unique(image_ids[captions], return_index=True)
    return retrieval_scores(image[captions[rows]], text[captions], images.searchsorted(image_ids[captions]))
