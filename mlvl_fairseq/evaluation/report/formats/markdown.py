"""``report.md``: the summary of all methods, comparisons, costs, then each method's matrix."""

import math
from pathlib import Path
from typing import Dict, List, Sequence

import numpy as np

from mlvl_fairseq.evaluation.metrics.continual import FORGETTING
from mlvl_fairseq.evaluation.report.comparison import Comparison
from mlvl_fairseq.evaluation.report.registry import ReportOptions, register_report_format
from mlvl_fairseq.evaluation.report.summary import MethodReport, Report
from mlvl_fairseq.evaluation.report.tables import ARROWS, Figure, figure_text, markdown_table, number
from mlvl_fairseq.files import write_text

_COSTS = {
    "training s": ("train_seconds", 0),
    "training s a language": ("train_seconds_per_language", 1),
    "preparing, finishing s": ("other_seconds", 0),
    "evaluating s": ("evaluate_seconds", 0),
    "peak memory MiB": ("peak_mib", 0),
    "trainable parameters": ("trainable_parameters", 0),
    "checkpoint MiB": ("checkpoint_mib", 1),
}


@register_report_format("md")
def write(report: Report, options: ReportOptions) -> List[Path]:
    pictures = "png" in options.formats
    parts = [
        f"# {report.dataset}: {report.languages_text}, {report.split} split",
        _explanation(report),
        summary_table(report, options.ndigits),
        _sources(report),
        "\n".join(f"- Warning: {warning}" for warning in report.warnings),
        "![Scores, average and forgetting](report.png)" if pictures else "",
        *(comparison_section(comparison) for comparison in report.comparisons),
        final_section(report, options.metric, options.ndigits) if len(report.methods) > 1 or report.evaluations else "",
        _costs_section(report, pictures) if report.has_costs else "",
        *(_method_section(method, options) for method in report.sequences),
        *(
            f"`{method.name}`: signature `{method.signature}`"
            for method in report.methods
            if method.signature and not method.protocol.in_order
        ),
    ]
    path = options.folder / "report.md"
    write_text(path, "\n\n".join(part for part in parts if part) + "\n")
    return [path]


def _explanation(report: Report) -> str:
    lines = ["AA: average score over all languages, higher is better."]
    if report.learners:
        lines = [
            "AA: average score over all languages at the end, higher is better. F: average forgetting of the languages "
            f"learned before the last{', Fen: that of English' if 'Fen' in report.measures else ''}, lower is better "
            f"({report.forgetting}: {FORGETTING[report.forgetting].about}). Scores in %."
        ]
    seeds = {len(method.runs) for method in report.methods}
    if max(seeds) > 1:
        counts = f"{min(seeds)} to {max(seeds)}" if len(seeds) > 1 else max(seeds)
        lines.append(f"Mean ± sample standard deviation over {counts} seeds.")
    lines += [f"{method.name}: {method.protocol.about}; nothing can be forgotten." for method in _others(report)]
    return " ".join(lines)


def _others(report: Report) -> List[MethodReport]:
    return [method for method in report.learners if not method.protocol.in_order]


def summary_table(report: Report, ndigits: int = 1) -> str:
    """AA, and F and Fen of runs, of the main metrics, one row a method; the best of several of ours that are finished
    is bold, if they compare."""
    rows = report.rows()
    finished = [not row.is_published and row.is_finished for row in rows]
    cells = [[row.label for row in rows]]
    for metrics in report.columns.values():
        for measure in report.measures:
            best = _best(report, measure, metrics, ndigits)
            figures = [row.figure(measure, metrics) for row in rows]
            texts = [figure_text(figure, ndigits) for figure in figures]
            bold = [is_ours and number(f.mean, ndigits) == best for is_ours, f in zip(finished, figures)]
            cells.append([f"**{text}**" if is_best else text for text, is_best in zip(texts, bold)])
    header = [f"{measure} {name} {ARROWS[measure]}" for name in report.columns for measure in report.measures]
    return markdown_table(["method", *header], list(zip(*cells)))


def _best(report: Report, measure: str, metrics: Sequence[str], ndigits: int) -> str:
    """The best figure of finished methods as it is shown, '' where there is none: they do not compare, or all show the
    same."""
    values = [method.figure(measure, metrics).mean for method in report.methods if method.is_finished]
    known = [value for value in values if not math.isnan(value)]
    if not report.comparable or len({number(value, ndigits) for value in known}) < 2:
        return ""
    return number((max if ARROWS[measure] == "↑" else min)(known), ndigits)


def _sources(report: Report) -> str:
    shown = {row.source for row in report.rows() if row.is_published}
    return f"Published figures: {', '.join(sorted(shown))}; not measured here." if shown else ""


def comparison_section(comparison: Comparison) -> str:
    """The table of one paired bootstrap."""
    rows = []
    for name, metrics in comparison.columns.items():
        difference = comparison.difference(metrics)
        low, high = difference.interval()
        rows.append([name, f"{difference.observed:+.2f}", f"[{low:+.2f}, {high:+.2f}]", f"{difference.p_value:.3f}"])
    seeds = f", mean over seeds {', '.join(map(str, comparison.seeds))}" if len(comparison.seeds) > 1 else ""
    title = f"## {comparison.first} minus {comparison.second}"
    drawn = "images and seeds" if comparison.seeds_drawn else "images"
    draws = f"{comparison.resamples:,} draws{seeds}"
    languages = f"Languages: {', '.join(comparison.languages)}."
    about = f"Difference of AA in percentage points; paired bootstrap over {drawn}, {draws}. {languages}"
    return f"{title}\n\n{about}\n\n{markdown_table(['metric', 'difference', '95 % interval', 'p'], rows)}"


def final_section(report: Report, metric: str, ndigits: int = 1) -> str:
    """The tables of final scores: a row a method, a column a language, mean and deviation over seeds."""
    tables = []
    for shown in report.metrics_shown(metric):
        rows = []
        for method in report.methods:
            if shown in method.metrics[0]:
                figures = method.final_figures(shown)
                cells = [figures.get(language, Figure.of([np.nan])) for language in report.languages]
                rows.append([method.name, *(figure_text(figure, ndigits) for figure in cells)])
        table = markdown_table(["", *report.languages], rows)
        tables.append(f"`{shown}` of the final model on each language.\n\n{table}")
    return "\n\n".join(["## Final scores", *tables])


def _costs_section(report: Report, pictures: bool) -> str:
    rows = [[method.name, *_cost_cells(method.costs())] for method in report.learners]
    about = (
        "Seconds over all languages, mean over seeds; the largest memory of any process; parameters that training "
        "changes, mean over languages; the checkpoint of the last language."
    )
    picture = "\n\n![Seconds and memory along the sequence](costs.png)" if pictures else ""
    return f"## Costs\n\n{about}\n\n{markdown_table(['method', *_COSTS], rows)}{picture}"


def _cost_cells(costs: Dict[str, float]) -> List[str]:
    return [number(costs[key], ndigits, group=True) for key, ndigits in _COSTS.values()]


def _method_section(method: MethodReport, options: ReportOptions) -> str:
    matrix = method.matrix(options.metric)
    average, forgotten = (method.steps(measure, options.metric).mean(axis=0) for measure in ("AA", "F"))
    rows = []
    for step, language in enumerate(method.languages):
        scores = [number(score, options.ndigits) for score in matrix[step, : step + 1]]
        blank = [""] * (len(method.languages) - step - 1)
        lost = number(forgotten[step], options.ndigits) if step else ""
        rows.append([f"after {language}", *scores, *blank, number(average[step], options.ndigits), lost])
    mean = f" Mean over {len(method.runs)} seeds." if len(method.runs) > 1 else ""
    about = f"`{options.metric}` on each language (columns) after learning each language (rows).{mean}"
    signature = f"\n\nSignature: `{method.signature}`" if method.signature else ""
    return f"## {method.name}\n\n{about}\n\n{markdown_table(['', *method.languages, 'AA', 'F'], rows)}{signature}"
