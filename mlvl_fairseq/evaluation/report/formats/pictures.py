"""``report.png``: curves of all methods above their matrices; ``curves.png``, ``matrix_{method}.png``: each alone."""

from pathlib import Path
from typing import List, Sequence, Tuple

import numpy as np

from mlvl_fairseq.data.atomic_files import atomic_path
from mlvl_fairseq.evaluation.report.drawing import FAINT, TEXT, Range, cell_inches, draw_curves, draw_matrix
from mlvl_fairseq.evaluation.report.registry import ReportOptions, register_format
from mlvl_fairseq.evaluation.report.summary import MethodReport, Report
from mlvl_fairseq.evaluation.report.text import file_stem, number

DPI = 150
MATRICES_A_ROW = 3
LEGEND_COLUMNS = 4
TITLE_HEIGHT, CURVE_HEIGHT = 0.6, 3.5  # inches, as all sizes here
_STYLE = {
    "font.size": 10.5,
    "font.family": "DejaVu Sans",
    "axes.titlesize": 12.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": FAINT,
    "axes.labelcolor": TEXT,
    "text.color": TEXT,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
}


@register_format("png")
def write(report: Report, options: ReportOptions) -> List[Path]:
    import matplotlib

    with matplotlib.rc_context(_STYLE):
        paths = [_save(_report_figure(report, options), options.folder / "report.png")]
        paths.append(_save(_curves_figure(report, options), options.folder / "curves.png"))
        for method in report.methods:
            figure = _matrix_figure(method, report, options)
            paths.append(_save(figure, options.folder / f"matrix_{file_stem(method.name)}.png"))
    return paths


def _save(figure, path: Path) -> Path:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI, facecolor="white", bbox_inches="tight", pad_inches=0.25)
    return path


def _figure(width: float, height: float):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.1)
    FigureCanvasAgg(figure)  # no pyplot: no global state, no display
    return figure


def _report_figure(report: Report, options: ReportOptions):
    width, matrix_height = _matrices_size(report.methods)
    curve_height = _curve_height(report)
    figure = _figure(width, TITLE_HEIGHT + curve_height + matrix_height)
    figure.suptitle(_title(report), fontsize=15, fontweight="bold")
    top, bottom = figure.subfigures(2, 1, height_ratios=[curve_height, matrix_height])
    _draw_both_curves(top, report, options)
    used = _matrices_size(report.methods, minimum=0)[0]
    margin = (width - used) / 2
    if margin > 0:
        bottom = bottom.subfigures(1, 3, width_ratios=[margin, used, margin])[1]
    _draw_matrices(bottom, report.methods, _limits(report, options.metric), options)
    return figure


def _curves_figure(report: Report, options: ReportOptions):
    figure = _figure(_matrices_size(report.methods)[0], _curve_height(report))
    _draw_both_curves(figure, report, options)
    return figure


def _matrix_figure(method: MethodReport, report: Report, options: ReportOptions):
    figure = _figure(*_matrices_size([method], minimum=0))
    _draw_matrices(figure, [method], _limits(report, options.metric), options)
    return figure


def _limits(report: Report, metric: str) -> Range:
    """Lowest and highest score of all methods: the same colours in all matrices."""
    scores = np.concatenate([method.matrix[metric].ravel() for method in report.methods])
    return float(np.nanmin(scores)), float(np.nanmax(scores))


def _title(report: Report) -> str:
    count = max(len(method.languages) for method in report.methods)
    languages = f"{count} languages, one after another" if count > 1 else report.methods[0].languages[0]
    return f"{report.dataset} ({report.split} split): {languages}"


def _draw_both_curves(figure, report: Report, options: ReportOptions) -> None:
    metric = options.metric
    left, right = figure.subplots(1, 2)
    orders = {tuple(method.languages) for method in report.methods}
    longest = max(orders, key=len)
    ticks = longest if len(orders) == 1 else [str(step + 1) for step in range(len(longest))]
    average = {method.name: method.metrics[metric].AA for method in report.methods}
    forgotten = {method.name: method.metrics[metric].F for method in report.methods}
    draw_curves(left, average, ticks, options.ndigits)
    draw_curves(right, forgotten, ticks, options.ndigits)
    left.set_title("Average over all languages so far, AA (higher is better)")
    left.set_ylabel(f"{metric} in %")
    right.set_title("Forgetting of earlier languages, F (lower is better)")
    right.set_ylabel(f"{metric} points lost")
    for ax in (left, right):
        ax.set_xlabel("after learning" if len(orders) == 1 else "languages learned")
    if np.isnan(np.concatenate(list(forgotten.values()))).all():
        right.set_yticks([])
        right.text(0.5, 0.5, "nothing to compare with yet", ha="center", color=FAINT, transform=right.transAxes)
    else:
        right.axhline(0, color=FAINT, linewidth=1, zorder=1)
    if len(report.methods) > 1:
        handles, labels = left.get_legend_handles_labels()
        columns = -(-len(labels) // _legend_rows(report))
        figure.legend(handles, labels, loc="outside upper center", ncols=columns, frameon=False, fontsize=11)


def _legend_rows(report: Report) -> int:
    return -(-len(report.methods) // LEGEND_COLUMNS) if len(report.methods) > 1 else 0


def _curve_height(report: Report) -> float:
    return CURVE_HEIGHT + 0.3 * _legend_rows(report)


def _matrices_size(methods: Sequence[MethodReport], minimum: float = 12) -> Tuple[float, float]:
    """(width, height) of the figure part that holds all matrices, wide enough for two sets of curves."""
    size = max(len(method.languages) for method in methods)
    columns = min(MATRICES_A_ROW, len(methods))
    rows = -(-len(methods) // columns)
    edge = size * cell_inches(size)
    return max(minimum, columns * (max(edge, 2.2) + 0.9) + 0.9), rows * (max(edge, 2.2) + 1.5)


def _draw_matrices(figure, methods: Sequence[MethodReport], limits: Range, options: ReportOptions) -> None:
    columns = min(MATRICES_A_ROW, len(methods))
    axes = figure.subplots(-(-len(methods) // columns), columns, squeeze=False).ravel()
    for index, (ax, method) in enumerate(zip(axes, methods)):
        matrix = method.matrix[options.metric]
        image = draw_matrix(ax, matrix, method.languages, limits, options.ndigits)
        average, forgotten = (number(method.last(m, options.metric), options.ndigits) for m in ("AA", "F"))
        ax.set_title(method.name, pad=22)
        ax.annotate(f"AA {average}, F {forgotten}", (0, 1), (0, 6), "axes fraction", "offset points", fontsize=11)
        ax.set_xlabel(f"{options.metric} on")
        ax.set_ylabel("after learning" if index % columns == 0 else "")
    for ax in axes[len(methods) :]:
        ax.set_visible(False)
    bar = figure.colorbar(image, ax=list(axes), shrink=0.7, aspect=30, pad=0.02)
    bar.set_label(f"{options.metric} in % (higher is better)")
    bar.outline.set_visible(False)
