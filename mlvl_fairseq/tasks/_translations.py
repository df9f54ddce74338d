"""Translations of a validation set, which arrive in batches on one or several ranks, and their scores."""

from typing import Dict, List, Sequence, Tuple

import numpy as np

from mlvl_fairseq.data.parallel import Direction
from mlvl_fairseq.distributed import gather_values
from mlvl_fairseq.evaluation.metrics.translation import TranslationScores, score_translations
from mlvl_fairseq.tasks._validation import ValidationScores


class TranslationCollector(ValidationScores):
    """Keeps hypotheses and references of every validation batch until the whole set can be scored.

    Args:
        directions: of the set. Scores are ``bleu`` and ``chrf``, averages over directions, and ``bleu_<direction>`` and
            ``chrf_<direction>``.

    Attributes:
        scores: of each direction, once they are computed.
    """

    def __init__(self, directions: Sequence[Direction]):
        super().__init__()
        self.directions = list(directions)
        self.names = [f"{name}{rest}" for rest in ("", *(f"_{d}" for d in directions)) for name in ("bleu", "chrf")]
        self.scores: Dict[Direction, TranslationScores] = {}
        self._pairs: Dict[Tuple[int, int], Tuple[str, str]] = {}

    def add(self, direction: int, ids: Sequence[int], hypotheses: Sequence[str], references: Sequence[str]) -> None:
        """Sentences of one direction (its position in `directions`) and their ids, which come more than once where
        ranks are padded with a batch they have had."""
        self._pairs.update(zip(((direction, i) for i in ids), zip(hypotheses, references)))

    def compute(self) -> Dict[str, float]:
        pairs = sorted(self._gather())
        self.scores = {}
        for position, direction in enumerate(self.directions):
            texts = [pair[2:] for pair in pairs if pair[0] == position]
            if texts:
                self.scores[direction] = score_translations(*zip(*texts), direction.target)
        every = self.scores.values()
        named = {"bleu": _mean([score.bleu for score in every]), "chrf": _mean([score.chrf for score in every])}
        for direction, score in self.scores.items():
            named.update({f"bleu_{direction}": score.bleu, f"chrf_{direction}": score.chrf})
        return named

    def _gather(self) -> List[Tuple[int, int, str, str]]:
        """``(direction, id, hypothesis, reference)`` of all ranks, each once."""
        own = [(*key, *texts) for key, texts in self._pairs.items()]
        return list({tuple(pair) for pair in gather_values(own)})


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
