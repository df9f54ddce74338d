"""CSV tables in the layout of the published CLL-CLIP results, ``{dataset}_CL_retrieval*.csv``; rows = method x metric.

Published tables count a missing score as 0; these say n/a.
"""

import csv
import io
from pathlib import Path
from typing import Iterable, List, Sequence

import numpy as np

from mlvl_fairseq.data.atomic_files import write_text
from mlvl_fairseq.evaluation.report.registry import ReportOptions, register_format
from mlvl_fairseq.evaluation.report.summary import MEASURES, MethodReport, Report
from mlvl_fairseq.evaluation.report.text import file_stem, number


@register_format("csv")
def write(report: Report, options: ReportOptions) -> List[Path]:
    stem = f"{file_stem(report.dataset)}_CL_retrieval"
    languages = sorted({language for method in report.methods for language in method.languages})
    steps = max(len(method.languages) for method in report.methods)
    tables = {
        f"{stem}.csv": ([*languages, "Average"], lambda *row: _diagonal(*row, languages)),
        f"{stem}_cl_AA.csv": (range(steps), lambda method, metric: method.metrics[metric].AA),
        f"{stem}_cl_F.csv": (range(steps - 1), lambda method, metric: method.metrics[metric].F[1:]),
        f"{stem}_cl_Fen.csv": (range(steps - 1), lambda method, metric: method.metrics[metric].Fen[1:]),
        f"{stem}_cl_overall.csv": (
            [f"cl_{measure}" for measure in MEASURES],
            lambda method, metric: [method.last(measure, metric) for measure in MEASURES],
        ),
    }
    for name, (columns, values) in tables.items():
        rows = (
            [method.name, metric, *_cells(values(method, metric), len(columns), options.ndigits)]
            for method in report.methods
            for metric in method.metrics
        )
        write_text(options.folder / name, _format(["model", "metric", *columns], rows))
    return [options.folder / name for name in tables]


def _diagonal(method: MethodReport, metric: str, languages: Sequence[str]) -> List[float]:
    """The score on each language right after it was learned, and their average."""
    learned = dict(zip(method.languages, np.diagonal(method.matrix[metric])))
    return [*(learned.get(language, np.nan) for language in languages), np.mean(list(learned.values()))]


def _cells(values: Iterable[float], width: int, ndigits: int) -> List[str]:
    cells = [number(value, ndigits) for value in values]
    return cells + [""] * (width - len(cells))  # a method with fewer languages


def _format(header: Sequence, rows: Iterable[Sequence]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()
