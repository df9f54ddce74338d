"""The content of a report, whatever the format: methods with the mean and deviation over their seeds, comparisons."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.evaluation.metrics.continual import (
    ENGLISH,
    ContinualMetrics,
    continual_metrics,
    optional,
    place_of_english,
)
from mlvl_fairseq.evaluation.metrics.retrieval import METRICS as RETRIEVAL
from mlvl_fairseq.evaluation.report.checks import comparable, warnings_about, without_scores
from mlvl_fairseq.evaluation.report.comparison import Comparison
from mlvl_fairseq.evaluation.report.published import PublishedMethod
from mlvl_fairseq.evaluation.report.runs import Run, group_by_seed, name_groups
from mlvl_fairseq.evaluation.report.tables import COLUMNS, MEASURES, Figure
from mlvl_fairseq.evaluation.signature import common_signature
from mlvl_fairseq.runs.costs import total_costs
from mlvl_fairseq.runs.protocols import Protocol


@dataclass
class MethodReport:
    """One method: its runs, one for each seed, and what follows from them.

    Attributes:
        name: the method.
        runs: at least one.
        metrics: of each run: metric -> AA, F and Fen at every step.
    """

    name: str
    runs: List[Run]
    metrics: List[Dict[str, ContinualMetrics]]
    is_published: ClassVar[bool] = False

    @property
    def label(self) -> str:
        """Its name in tables of figures, which are not all there while a run is not finished."""
        return self.name if self.is_finished else f"{self.name} (unfinished)"

    @property
    def is_finished(self) -> bool:
        """Whether all scores of all its runs are there."""
        return not any(run.missing() for run in self.runs)

    @property
    def languages(self) -> List[str]:
        return self.runs[0].languages

    @property
    def is_evaluation(self) -> bool:
        """Whether these are scores of mlvl-evaluate, not runs of mlvl-cll."""
        return self.runs[0].is_evaluation

    @property
    def has_fen(self) -> bool:
        """Whether English is learned and can be forgotten."""
        return self.protocol.in_order and place_of_english(self.languages) is not None

    @property
    def protocol(self) -> Protocol:
        return self.runs[0].protocol

    def has_run(self, folder: str) -> bool:
        """Whether one of its runs is in a folder of this name or path."""
        paths = [run.folder.resolve() for run in self.runs]
        return any(folder == path.name or Path(folder).resolve() == path for path in paths)

    @property
    def seeds(self) -> List[Optional[int]]:
        return [run.seed for run in self.runs]

    @property
    def signature(self) -> str:
        """What the signatures of all scores have in common."""
        return common_signature(signature for run in self.runs for signature in run.signatures.values())

    def matrix(self, metric: str) -> np.ndarray:
        """[n, n] scores, mean over seeds; NaN is missing, all of a metric that this method's scores do not have."""
        return np.mean([self._scores(run, metric) for run in self.runs], axis=0)

    @staticmethod
    def _scores(run: Run, metric: str) -> np.ndarray:
        return run.matrix.scores.get(metric, np.full((len(run.languages),) * 2, np.nan))

    def final(self, metric: str) -> np.ndarray:
        """[n] final score on each language, mean over seeds."""
        return self.matrix(metric)[-1]

    def final_figures(self, metric: str) -> Dict[str, Figure]:
        """Language -> final score with its deviation over seeds."""
        finals = np.array([self._scores(run, metric)[-1] for run in self.runs])
        return {language: Figure.of(column) for language, column in zip(self.languages, finals.T)}

    def learned(self, metric: str) -> np.ndarray:
        """[n] score on each language by the model that has just learned it, mean over seeds."""
        return np.diagonal(self.matrix(metric)) if self.protocol.in_order else self.final(metric)

    def steps(self, measure: str, metric: str) -> np.ndarray:
        """[seeds, n] AA, F or Fen after every language; NaN for a metric that this method's scores do not have."""
        unknown = np.full(len(self.languages), np.nan)
        return np.array([getattr(run[metric], measure) if metric in run else unknown for run in self.metrics])

    def figure(self, measure: str, metrics: Sequence[str]) -> Figure:
        """AA, F or Fen at the end, the mean of some metrics."""
        values = np.mean([self.steps(measure, metric)[:, -1] for metric in metrics], axis=0)
        return Figure.of(values)

    def last(self, measure: str, metric: str) -> float:
        """AA, F or Fen at the end, mean over seeds."""
        return self.figure(measure, [metric]).mean

    def costs(self) -> Dict[str, float]:
        """See :func:`mlvl_fairseq.runs.costs.total_costs`; mean over seeds, memory the largest; {} of evaluations."""
        if self.is_evaluation:
            return {}
        totals = [total_costs(run.costs) for run in self.runs]
        return {key: float((np.max if key == "peak_mib" else np.mean)([t[key] for t in totals])) for key in totals[0]}

    def to_json(self) -> Dict[str, Any]:
        metrics = list(self.metrics[0])
        figures = {measure: {m: self.figure(measure, [m]) for m in metrics} for measure in MEASURES}
        return {
            "languages": self.languages,
            "protocol": self.protocol.name,
            "seeds": self.seeds,
            "Fen_language": ENGLISH if self.has_fen else None,
            "matrix": {m: self._rows(m) for m in metrics},
            **{measure: {m: _number(figure.mean) for m, figure in row.items()} for measure, row in figures.items()},
            "deviation": {
                measure: {m: _number(figure.deviation) for m, figure in row.items()} for measure, row in figures.items()
            },
            "per_seed": {
                measure: {m: optional(self.steps(measure, m)[:, -1]) for m in metrics} for measure in MEASURES
            },
            "steps": {
                measure: {m: optional(self.steps(measure, m).mean(axis=0)) for m in metrics} for measure in MEASURES
            },
            "final": {
                m: {
                    language: {"mean": _number(figure.mean), "deviation": _number(figure.deviation)}
                    for language, figure in self.final_figures(m).items()
                }
                for m in metrics
            },
            "costs": {key: _number(value) for key, value in self.costs().items()},
            "signature": self.signature,
            "missing": sorted({text for run in self.runs for text in run.missing()}),
        }

    def _rows(self, metric: str) -> List[List[Optional[float]]]:
        """The lower triangle, row i with i + 1 scores; one row of final scores where nothing is learned in order."""
        if not self.protocol.in_order:
            return [optional(self.final(metric))]
        return [optional(row[: step + 1]) for step, row in enumerate(self.matrix(metric))]


@dataclass
class Report:
    """All methods side by side.

    Attributes:
        methods: in the order of their folders.
        dataset: short name of the data.
        split: evaluated split.
        forgetting: name of the definition.
        warnings: what a reader of the numbers must know, one line each.
        comparable: the methods learned the same languages in the same order and were scored alike, so that one of them
            can be the best.
        published: method of the table -> its published figures.
        comparisons: of two methods each.
    """

    methods: List[MethodReport]
    dataset: str
    split: str
    forgetting: str
    warnings: List[str]
    comparable: bool = True
    published: Dict[str, PublishedMethod] = field(default_factory=dict)
    comparisons: List[Comparison] = field(default_factory=list)

    @property
    def sequences(self) -> List[MethodReport]:
        """The methods that learn one language after another."""
        return [method for method in self.methods if method.protocol.in_order]

    @property
    def evaluations(self) -> List[MethodReport]:
        """The models whose scores are mlvl-evaluate's."""
        return [method for method in self.methods if method.is_evaluation]

    @property
    def learners(self) -> List[MethodReport]:
        """The methods of mlvl-cll's runs."""
        return [method for method in self.methods if not method.is_evaluation]

    @property
    def metrics(self) -> List[str]:
        """Every metric of any scores."""
        return list(dict.fromkeys(metric for method in self.methods for metric in method.metrics[0]))

    @property
    def columns(self) -> Dict[str, Tuple[str, ...]]:
        """Heading -> the metrics whose figures are averaged: the main ones of retrieval, all of other evaluators."""
        known = {name: metrics for name, metrics in COLUMNS.items() if set(metrics) <= set(self.metrics)}
        shown = RETRIEVAL if known else ()
        return {**known, **{metric: (metric,) for metric in self.metrics if metric not in shown}}

    @property
    def measures(self) -> Tuple[str, ...]:
        """What there is to say of each metric: the average alone where only scores of mlvl-evaluate are reported, and
        no Fen where no sequence learns English."""
        if not self.learners:
            return MEASURES[:1]
        has_fen = any(method.has_fen for method in self.sequences) or not self.sequences
        return tuple(measure for measure in MEASURES if has_fen or measure != "Fen")

    def metrics_shown(self, metric: str) -> List[str]:
        """`metric`, and the first of every method that has other ones."""
        others = [list(method.metrics[0]) for method in self.methods if metric not in method.metrics[0]]
        return list(dict.fromkeys([metric, *(metrics[0] for metrics in others)]))

    def main_metric(self, wanted: Optional[str] = None) -> str:
        """The one shown in matrices and pictures. Raises UserError: no scores have the one that is wanted."""
        if wanted is None:
            return "r_mean" if "r_mean" in self.metrics else self.metrics[0]
        if wanted not in self.metrics:
            raise UserError(f"no scores have a metric {wanted!r}; there are: {', '.join(self.metrics)}")
        return wanted

    @property
    def has_costs(self) -> bool:
        return any(not np.isnan(value) for method in self.methods for value in method.costs().values())

    @property
    def languages(self) -> List[str]:
        """Every language of any method, those of the longest sequence first."""
        longest_first = sorted(self.methods, key=lambda method: -len(method.languages))
        return list(dict.fromkeys(language for method in longest_first for language in method.languages))

    @property
    def languages_text(self) -> str:
        """``7 languages``, ``2 to 4 languages``, or the language where it is the only one."""
        if len(self.languages) == 1:
            return self.languages[0]
        counts = sorted({len(method.languages) for method in self.methods})
        return f"{counts[0]} to {counts[-1]} languages" if len(counts) > 1 else _languages(counts[0])

    def method(self, name: str) -> MethodReport:
        """A method by its name in the report, or by the name or path of the folder of one of its runs.

        Raises:
            UserError: there is none, or the folder's name is that of several methods' runs.
        """
        named = [method for method in self.methods if method.name == name]
        found = named or [method for method in self.methods if method.has_run(name)]
        if len(found) == 1:
            return found[0]
        names = ", ".join(method.name for method in found or self.methods)
        if found:
            raise UserError(f"several methods have a run in a folder {name!r}; say which: {names}")
        raise UserError(f"no method {name!r} in this report; there are: {names}")

    def rows(self) -> List[Union[MethodReport, PublishedMethod]]:
        """The rows of the summary: each method, followed by its published figures where they are asked for."""
        rows: List[Union[MethodReport, PublishedMethod]] = []
        for method in self.methods:
            rows.append(method)
            if method.runs[0].method in self.published:
                rows.append(self.published[method.runs[0].method])
        return rows

    def to_json(self) -> Dict[str, Any]:
        result = {
            "dataset": self.dataset,
            "split": self.split,
            "methods": {m.name: {**m.to_json(), "forgetting": self.forgetting} for m in self.methods},
            "warnings": self.warnings,
        }
        if self.published:
            result["published"] = {name: row.to_json() for name, row in self.published.items()}
        if self.comparisons:
            result["comparisons"] = [comparison.to_json() for comparison in self.comparisons]
        return result


def summarise(runs: Sequence[Run], forgetting: str = "reference") -> Report:
    """Group runs by seed and compute every metric of every run.

    Runs without any score (just begun, or failed at once) are left out; a warning names them.

    Args:
        runs: at least one with a score.
        forgetting: name in :data:`mlvl_fairseq.evaluation.metrics.continual.FORGETTING`.

    Raises:
        UserError: unknown definition of forgetting.
    """
    scored = [run for run in runs if run.signatures]
    groups = group_by_seed(scored)
    methods = [
        MethodReport(
            name,
            list(group),
            [_metrics(run, forgetting) for run in group],
        )
        for name, group in zip(name_groups(groups), groups)
    ]
    warnings = without_scores([run for run in runs if not run.signatures])
    warnings += warnings_about({method.name: method.runs for method in methods})
    main = next((run for run in scored if not run.is_evaluation), scored[0])
    return Report(methods, main.dataset, main.split, forgetting, warnings, comparable(scored))


def _metrics(run: Run, forgetting: str) -> Dict[str, ContinualMetrics]:
    english = place_of_english(run.languages)
    return {metric: continual_metrics(a, forgetting, english) for metric, a in run.matrix.scores.items()}


def _languages(count: int) -> str:
    return "1 language" if count == 1 else f"{count} languages"


def _number(value: float) -> Optional[float]:
    return optional([value])[0]
