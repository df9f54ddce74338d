"""Two methods, query by query: is the difference of their final averages more than chance of the test images?"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence

import numpy as np

from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.evaluation.metrics.bootstrap import Difference, paired_bootstrap
from mlvl_fairseq.evaluation.metrics.query_ranks import QueryRanks
from mlvl_fairseq.evaluation.metrics.retrieval import METRICS, recalls
from mlvl_fairseq.evaluation.report.runs import Run

if TYPE_CHECKING:
    from mlvl_fairseq.evaluation.report.summary import MethodReport


@dataclass(frozen=True)
class Comparison:
    """A paired bootstrap of AA, first minus second method.

    Attributes:
        first, second: names of the methods.
        seeds: of training, those that both were run with.
        resamples: number of draws of the test images.
        differences: metric -> difference in percentage points.
    """

    first: str
    second: str
    seeds: List[Optional[int]]
    resamples: int
    differences: Dict[str, Difference]

    def difference(self, metrics: Sequence[str]) -> Difference:
        """Of the mean of some metrics."""
        parts = [self.differences[metric] for metric in metrics]
        return Difference(
            float(np.mean([part.observed for part in parts])), np.mean([part.draws for part in parts], axis=0)
        )

    def to_json(self) -> Dict[str, Any]:
        rows = {
            metric: {"difference": d.observed, "interval_95": list(d.interval()), "p_value": d.p_value}
            for metric, d in self.differences.items()
        }
        names = {"first": self.first, "second": self.second, "seeds": self.seeds, "resamples": self.resamples}
        return {**names, "AA": rows}


def compare(first: "MethodReport", second: "MethodReport", resamples: int = 1000) -> Comparison:
    """Paired bootstrap between the final models of two methods, averaged over the seeds that both have.

    Raises:
        UserError: no seed in common, other languages, other test data, or no ranks beside the final scores.
        DataError: ranks that do not belong to their score.
    """
    if set(first.languages) != set(second.languages):
        only = "; ".join(filter(None, (_only(first, second), _only(second, first))))
        raise UserError(f"cannot compare {first.name} and {second.name}: they learned different languages ({only})")
    pairs = _pair_by_seed(first.runs, second.runs)
    if not pairs:
        seeds = f"{first.seeds} and {second.seeds}"
        raise UserError(f"cannot compare {first.name} and {second.name}: no seed in common ({seeds})")
    ranks = [(_final_ranks(one), _final_ranks(other)) for one, other in pairs]
    by_language = [[(one[lang], other[lang]) for one, other in ranks] for lang in first.languages]
    differences = paired_bootstrap(by_language, resamples)
    return Comparison(first.name, second.name, [one.seed for one, _ in pairs], resamples, differences)


def _only(method: "MethodReport", other: "MethodReport") -> str:
    """The languages that only one of two methods has learned, in words."""
    languages = [language for language in method.languages if language not in other.languages]
    return f"only {method.name}: {', '.join(languages)}" if languages else ""


def _pair_by_seed(first: Sequence[Run], second: Sequence[Run]) -> list:
    others = {run.seed: run for run in second}
    return [(run, others[run.seed]) for run in first if run.seed in others]


def _final_ranks(run: Run) -> Dict[str, QueryRanks]:
    """Ranks that were checked to give the scores beside them."""
    ranks = run.final_ranks()
    for j, language in enumerate(run.languages):
        scores = recalls(ranks[language].image_ranks, ranks[language].text_ranks)
        stored = {metric: run.matrix[metric][-1, j] for metric in METRICS}
        if not all(np.isclose(scores[metric], stored[metric], rtol=0, atol=1e-6) for metric in METRICS):
            message = f"its ranks on {language} do not give its score; delete both and evaluate again"
            raise DataError(message, run.folder)
    return ranks
