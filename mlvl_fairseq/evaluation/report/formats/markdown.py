"""``report.md``: the summary of all methods, then each method's matrix."""

import math
from pathlib import Path
from typing import List

from mlvl_fairseq.data.atomic_files import write_text
from mlvl_fairseq.evaluation.continual import FORGETTING
from mlvl_fairseq.evaluation.report.registry import ReportOptions, register_format
from mlvl_fairseq.evaluation.report.summary import MEASURES, MethodReport, Report
from mlvl_fairseq.evaluation.report.text import markdown_table, number

SUMMARY_METRICS = ("r_mean", "txt_r1", "img_r1")
_ARROWS = {"AA": "↑", "F": "↓", "Fen": "↓"}


@register_format("md")
def write(report: Report, options: ReportOptions) -> List[Path]:
    parts = [
        f"# {report.dataset}: {len(report.methods[0].languages)} languages, {report.split} split",
        "AA: average score over all languages at the end, higher is better. F: average forgetting of the languages "
        f"learned before the last, Fen: that of the first language, lower is better ({report.forgetting}: "
        f"{FORGETTING[report.forgetting].about}). Scores in %.",
        summary_table(report, options.ndigits),
        "\n".join(f"- Warning: {warning}" for warning in report.warnings),
        "![Scores, average and forgetting](report.png)" if "png" in options.formats else "",
        *(_method_section(method, options) for method in report.methods),
    ]
    path = options.folder / "report.md"
    write_text(path, "\n\n".join(part for part in parts if part) + "\n")
    return [path]


def summary_table(report: Report, ndigits: int = 1) -> str:
    """AA, F and Fen of the main metrics, one row a method; the best of several is bold."""
    columns = [(measure, metric) for metric in SUMMARY_METRICS for measure in MEASURES]
    cells = [[method.name for method in report.methods]]
    for measure, metric in columns:
        values = [method.last(measure, metric) for method in report.methods]
        texts = [number(value, ndigits) for value in values]
        known = [value for value in values if not math.isnan(value)]
        if len(known) > 1:
            best = number((max if measure == "AA" else min)(known), ndigits)
            texts = [f"**{text}**" if text == best else text for text in texts]
        cells.append(texts)
    header = ["method", *(f"{measure} {metric} {_ARROWS[measure]}" for measure, metric in columns)]
    return markdown_table(header, list(zip(*cells)))


def _method_section(method: MethodReport, options: ReportOptions) -> str:
    metrics, matrix = method.metrics[options.metric], method.matrix[options.metric]
    rows = []
    for step, language in enumerate(method.languages):
        scores = [number(score, options.ndigits) for score in matrix[step, : step + 1]]
        blank = [""] * (len(method.languages) - step - 1)
        forgotten = number(metrics.F[step], options.ndigits) if step else ""
        rows.append([f"after {language}", *scores, *blank, number(metrics.AA[step], options.ndigits), forgotten])
    title = f"## {method.name}\n\n`{options.metric}` on each language (columns) after learning each language (rows)."
    signature = f"\n\nSignature: `{method.signature}`" if method.signature else ""
    return f"{title}\n\n{markdown_table(['', *method.languages, 'AA', 'F'], rows)}{signature}"
