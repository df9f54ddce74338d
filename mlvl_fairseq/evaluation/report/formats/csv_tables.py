"""CSV tables.

* ``{dataset}_CL_retrieval*.csv``: the layout of the published CLL-CLIP results; rows = method x metric, mean over
  seeds. Published tables count a missing score as 0; these say n/a.
* ``summary.csv``: method x metric with mean and deviation over seeds, published figures marked.
* ``scores.csv``: scores of mlvl-evaluate, model x language x metric with mean and deviation over seeds.
* ``costs.csv``, ``comparisons.csv``: where there are any.
"""

import csv
import io
from pathlib import Path
from typing import Dict, Iterable, List, Sequence

import numpy as np

from mlvl_fairseq.evaluation.report.registry import ReportOptions, register_report_format
from mlvl_fairseq.evaluation.report.summary import MethodReport, Report
from mlvl_fairseq.evaluation.report.tables import MEASURES, MISSING, file_stem, number
from mlvl_fairseq.files import write_text

Table = List[Sequence]


@register_report_format("csv")
def write(report: Report, options: ReportOptions) -> List[Path]:
    tables = {"summary.csv": _summary(report, options.ndigits)}
    if report.learners:
        tables.update(_published_layout(report, options.ndigits))
    if report.evaluations:
        tables["scores.csv"] = _scores(report, options.ndigits)
    if report.has_costs:
        tables["costs.csv"] = _costs(report)
    if report.comparisons:
        tables["comparisons.csv"] = _comparisons(report)
    for name, table in tables.items():
        write_text(options.folder / name, _format(table))
    return [options.folder / name for name in tables]


def _published_layout(report: Report, ndigits: int) -> Dict[str, Table]:
    stem = f"{file_stem(report.dataset)}_CL_retrieval"
    languages = sorted({language for method in report.learners for language in method.languages})
    steps = max(len(method.languages) for method in report.learners)
    layout = {
        f"{stem}.csv": ([*languages, "Average"], lambda *row: _learned(*row, languages)),
        f"{stem}_cl_AA.csv": (range(steps), lambda method, metric: method.steps("AA", metric).mean(axis=0)),
        f"{stem}_cl_F.csv": (range(steps - 1), lambda method, metric: method.steps("F", metric).mean(axis=0)[1:]),
        f"{stem}_cl_Fen.csv": (range(steps - 1), lambda method, metric: method.steps("Fen", metric).mean(axis=0)[1:]),
        f"{stem}_cl_overall.csv": (
            [f"cl_{measure}" for measure in MEASURES],
            lambda method, metric: [method.last(measure, metric) for measure in MEASURES],
        ),
    }
    tables: Dict[str, Table] = {}
    for name, (columns, values) in layout.items():
        rows = [
            [method.name, metric, *_cells(values(method, metric), len(columns), ndigits)]
            for method in report.learners
            for metric in method.metrics[0]
        ]
        tables[name] = [["model", "metric", *columns], *rows]
    return tables


def _learned(method: MethodReport, metric: str, languages: Sequence[str]) -> List[float]:
    """The score on each language right after it was learned, and their average."""
    learned = dict(zip(method.languages, method.learned(metric)))
    return [*(learned.get(language, np.nan) for language in languages), np.mean(list(learned.values()))]


def _cells(values: Iterable[float], width: int, ndigits: int) -> List[str]:
    cells = [number(value, ndigits) for value in values]
    return cells + [""] * (width - len(cells))  # a method with fewer languages


def _summary(report: Report, ndigits: int) -> Table:
    table: Table = [
        ["model", "source", "seeds", "metric", *(f"{m}{part}" for m in MEASURES for part in ("", "_deviation"))]
    ]
    for row in report.rows():
        head = [row.name, *((row.source, MISSING) if row.is_published else ("ours", len(row.runs)))]
        for name, metrics in report.columns.items():
            figures = [row.figure(measure, metrics) for measure in MEASURES]
            table.append([*head, name, *(number(value, ndigits) for figure in figures for value in figure)])
    return table


def _scores(report: Report, ndigits: int) -> Table:
    rows = [
        [method.name, len(method.runs), language, metric, *(number(value, ndigits) for value in figure)]
        for method in report.evaluations
        for metric in method.metrics[0]
        for language, figure in method.final_figures(metric).items()
    ]
    return [["model", "seeds", "language", "metric", "score", "deviation"], *rows]


def _costs(report: Report) -> Table:
    keys = list(report.learners[0].costs())
    rows = [[method.name, *(number(value, 2) for value in method.costs().values())] for method in report.learners]
    return [["model", *keys], *rows]


def _comparisons(report: Report) -> Table:
    heading = ["first", "second", "metric", "difference", "low_95", "high_95", "p_value", "resamples", "drawn"]
    table: Table = [heading]
    for comparison in report.comparisons:
        for name, metrics in comparison.columns.items():
            difference = comparison.difference(metrics)
            values = (difference.observed, *difference.interval(), difference.p_value)
            names = [comparison.first, comparison.second, name]
            drawn = "images+seeds" if comparison.seeds_drawn else "images"
            table.append([*names, *(number(value, 4) for value in values), comparison.resamples, drawn])
    return table


def _format(table: Table) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(table)
    return text.getvalue()
