"""The content of a report, whatever the format: matrices, metrics of continual learning, warnings."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Dict, List, Sequence, Set

from mlvl_fairseq.evaluation.continual import ContinualMetrics, ScoreMatrix, continual_metrics, optional
from mlvl_fairseq.evaluation.report.runs import Run
from mlvl_fairseq.evaluation.signature import common_signature, differing_keys

MEASURES = ("AA", "F", "Fen")
DATA_KEYS = ("data", "lang", "images", "texts")  # of a signature; rightly different from language to language


@dataclass
class MethodReport:
    """One method: its matrix and what follows from it.

    Attributes:
        name: the method.
        matrix: scores of all metrics.
        metrics: metric -> AA, F and Fen at every step.
        signature: what the signatures of all scores have in common.
    """

    name: str
    matrix: ScoreMatrix
    metrics: Dict[str, ContinualMetrics]
    signature: str

    @property
    def languages(self) -> List[str]:
        return self.matrix.languages

    def last(self, measure: str, metric: str) -> float:
        """AA, F or Fen of the final model; NaN if missing."""
        return float(getattr(self.metrics[metric], measure)[-1])

    def missing(self) -> List[str]:
        """Every missing score in words."""
        return [f"{self.languages[j]} after {self.languages[step]}" for step, j in self.matrix.missing()]

    def to_json(self) -> Dict[str, Any]:
        metrics = self.metrics
        return {
            "languages": self.languages,
            "matrix": {metric: self.matrix.rows(metric) for metric in metrics},
            **{measure: {m: optional([self.last(measure, m)])[0] for m in metrics} for measure in MEASURES},
            "signature": self.signature,
            "steps": {
                measure: {m: optional(getattr(values, measure)) for m, values in metrics.items()}
                for measure in MEASURES
            },
            "missing": self.missing(),
        }


@dataclass
class Report:
    """All methods side by side.

    Attributes:
        methods: in the order of their folders.
        dataset: short name of the data.
        split: evaluated split.
        forgetting: name of the definition.
        warnings: what a reader of the numbers must know, one line each.
    """

    methods: List[MethodReport]
    dataset: str
    split: str
    forgetting: str
    warnings: List[str]

    def to_json(self) -> Dict[str, Any]:
        methods = {m.name: {**m.to_json(), "forgetting": self.forgetting} for m in self.methods}
        return {"dataset": self.dataset, "split": self.split, "methods": methods, "warnings": self.warnings}


def summarise(runs: Sequence[Run], forgetting: str = "reference", missing_as_zero: bool = False) -> Report:
    """Compute every metric of every run.

    Args:
        runs: at least one.
        forgetting: name in :data:`mlvl_fairseq.evaluation.continual.FORGETTING`.
        missing_as_zero: see :func:`mlvl_fairseq.evaluation.continual.continual_metrics`.

    Raises:
        UserError: unknown definition of forgetting.
    """
    methods = [
        MethodReport(
            name=run.name,
            matrix=run.matrix,
            metrics={m: continual_metrics(a, forgetting, missing_as_zero) for m, a in run.matrix.scores.items()},
            signature=common_signature(run.signatures.values()),
        )
        for run in runs
    ]
    warnings = [*_missing(methods), *_different_languages(methods), *_different_signatures(runs)]
    return Report(methods, runs[0].dataset, runs[0].split, forgetting, warnings)


def _missing(methods: Sequence[MethodReport]) -> List[str]:
    lines = []
    for method in methods:
        missing = method.missing()
        if missing:
            total = len(method.languages) * (len(method.languages) + 1) // 2
            listed = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
            lines.append(f"{method.name}: {len(missing)} of {total} scores are missing ({listed})")
    return lines


def _different_languages(methods: Sequence[MethodReport]) -> List[str]:
    orders = {tuple(method.languages) for method in methods}
    return ["the methods learned different languages or orders: AA and F do not compare"] if len(orders) > 1 else []


def _different_signatures(runs: Sequence[Run]) -> List[str]:
    """Scores must be computed alike in all cells, and on the same data in all cells of one language."""
    by_language: Dict[str, Set[str]] = defaultdict(set)
    for run in runs:
        for (_, j), signature in run.signatures.items():
            by_language[run.matrix.languages[j]].add(signature)
    lines = [
        f"scores were computed in different ways: {key} is {' or '.join(map(repr, values))}"
        for key, values in differing_keys(set().union(*by_language.values())).items()
        if key not in DATA_KEYS
    ]
    for language, signatures in by_language.items():
        keys = [key for key in differing_keys(signatures) if key in DATA_KEYS]
        if keys:
            lines.append(f"scores on {language} were computed on different data: {', '.join(keys)} differ")
    return lines
