"""Parts of figures: two sets of curves, a grid of matrices, final scores; each drawn into a (sub)figure."""

from typing import Callable, List, Sequence, Tuple

import numpy as np

from mlvl_fairseq.evaluation.report.drawing import (
    CROWDED,
    FAINT,
    LABEL_INCHES,
    LEGEND_LIMIT,
    Curve,
    Range,
    cell_inches,
    draw_cells,
    draw_curves,
    draw_matrix,
    label_axes,
    label_ends,
    level_styles,
    line_styles,
)
from mlvl_fairseq.evaluation.report.registry import ReportOptions
from mlvl_fairseq.evaluation.report.summary import MethodReport, Report
from mlvl_fairseq.evaluation.report.tables import number

MATRICES_A_ROW = 3
LEGEND_COLUMNS = 4
CURVE_HEIGHT, MINIMUM_WIDTH = 3.5, 12.0  # inches, as all sizes here
_AROUND_CURVES = 1.25  # title, ticks and label of the axes
_NAMES_WIDTH = 2.4  # of methods beside cells or at the ends of lines

CurvesOf = Callable[[MethodReport], np.ndarray]


def measure_curves(report: Report, values_of: CurvesOf) -> List[Curve]:
    """A curve a method; a level where languages are not learned in order.

    Args:
        values_of: method -> [seeds, steps].
    """
    in_order = [method.name for method in report.sequences]
    levels = [method.name for method in report.methods if method.name not in in_order]
    styles = {**line_styles(in_order), **level_styles(levels)}
    curves = []
    for method in report.methods:
        values = values_of(method)
        several = len(values) > 1
        level = not method.protocol.in_order
        if level:
            values = values[:, -1:]
        spread = values.std(axis=0, ddof=1) if several and not level else None
        curves.append(Curve(method.name, values.mean(axis=0), spread, styles[method.name], level))
    return curves


def ticks_of(report: Report) -> Tuple[Sequence[str], bool]:
    """(labels of the steps, whether all methods learned in the same order)."""
    orders = {tuple(method.languages) for method in report.sequences or report.methods}
    longest = max(orders, key=len)
    return (longest, True) if len(orders) == 1 else ([str(step + 1) for step in range(len(longest))], False)


def curves_size(report: Report) -> Tuple[float, float]:
    """(width, height) of two sets of curves side by side."""
    count = len(report.methods)
    if count > LEGEND_LIMIT:
        return 16.0, max(CURVE_HEIGHT, 1.1 * LABEL_INCHES * count + _AROUND_CURVES)
    return MINIMUM_WIDTH, CURVE_HEIGHT + 0.3 * _legend_rows(report)


def draw_pair(figure, report: Report, pair) -> Tuple[object, object]:
    """Two sets of curves side by side with one legend, for a measure each.

    Args:
        pair: two lists of curves.

    Returns:
        The axes.
    """
    ticks, same_order = ticks_of(report)
    axes = figure.subplots(1, 2)
    for ax, curves in zip(axes, pair):
        draw_curves(ax, curves, ticks)
        ax.set_xlabel("after learning" if same_order else "languages learned")
        if all(np.isnan(curve.values).all() for curve in curves):
            ax.set_yticks([])
            ax.text(0.5, 0.5, "nothing to show yet", ha="center", color=FAINT, transform=ax.transAxes)
    if 1 < len(report.methods) <= LEGEND_LIMIT:
        handles, labels = max((ax.get_legend_handles_labels() for ax in axes), key=lambda entries: len(entries[1]))
        columns = -(-len(labels) // _legend_rows(report))
        figure.legend(handles, labels, loc="outside upper center", ncols=columns, frameon=False, fontsize=11)
    return tuple(axes)


def finish_pair(axes, report: Report, pair, texts) -> None:
    """Write the values at the ends of the lines, once limits are final."""
    height = curves_size(report)[1] - _AROUND_CURVES
    for ax, curves, text in zip(axes, pair, texts):
        label_ends(ax, curves, text, height)


def _legend_rows(report: Report) -> int:
    return -(-len(report.methods) // LEGEND_COLUMNS) if len(report.methods) > 1 else 0


def draw_scores(figure, report: Report, options: ReportOptions) -> None:
    """AA and F over the steps."""
    metric = options.metric

    def text(value: float) -> str:
        return number(value, options.ndigits)

    average = measure_curves(report, lambda method: method.steps("AA", metric))
    forgotten = [c for c in measure_curves(report, lambda method: method.steps("F", metric)) if not c.level]
    pair, texts = (average, forgotten), (text, text)
    left, right = draw_pair(figure, report, pair)
    left.set_title("Average over all languages so far, AA (higher is better)")
    left.set_ylabel(f"{metric} in %")
    right.set_title("Forgetting of earlier languages, F (lower is better)")
    right.set_ylabel(f"{metric} points lost")
    if len(right.get_yticks()):
        right.axhline(0, color=FAINT, linewidth=1, zorder=1)
    finish_pair((left, right), report, pair, texts)


def limits_of(report: Report, metric: str) -> Range:
    """Lowest and highest score of all methods: the same colours in all heat maps."""
    scores = np.concatenate([method.matrix(metric).ravel() for method in report.methods])
    return (float(np.nanmin(scores)), float(np.nanmax(scores))) if not np.isnan(scores).all() else (0.0, 100.0)


def has_numbers(methods: Sequence[MethodReport]) -> bool:
    """Is there room for a number in each cell of these matrices side by side?"""
    return len(methods) == 1 or max(len(method.languages) for method in methods) <= CROWDED


def matrices_size(methods: Sequence[MethodReport]) -> Tuple[float, float]:
    """(width, height) of a grid of matrices."""
    size = max(len(method.languages) for method in methods)
    rows, columns = _grid(len(methods))
    edge = max(size * cell_inches(size, has_numbers(methods)), 2.2)
    return columns * (edge + 0.9) + 0.9, rows * (edge + 1.5)


def _grid(count: int) -> Tuple[int, int]:
    """(rows, columns) of as even a grid as there is."""
    rows = -(-count // MATRICES_A_ROW)
    return rows, -(-count // rows)


def draw_matrices(figure, methods: Sequence[MethodReport], limits: Range, options: ReportOptions) -> None:
    """The matrix of each method, mean over seeds, in one set of colours."""
    rows, columns = _grid(len(methods))
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    ndigits = options.ndigits if has_numbers(methods) else None
    for index, (ax, method) in enumerate(zip(axes, methods)):
        image = draw_matrix(ax, method.matrix(options.metric), method.languages, limits, ndigits)
        average, forgotten = (number(method.last(m, options.metric), options.ndigits) for m in ("AA", "F"))
        ax.set_title(method.name, pad=22)
        ax.annotate(f"AA {average}, F {forgotten}", (0, 1), (0, 6), "axes fraction", "offset points", fontsize=11)
        ax.set_xlabel(f"{options.metric} on")
        ax.set_ylabel("after learning" if index % columns == 0 else "")
    for ax in axes[len(methods) :]:
        ax.set_visible(False)
    _colour_bar(figure, image, list(axes), options.metric)


def final_size(report: Report) -> Tuple[float, float]:
    """(width, height) of the final scores of all methods."""
    languages = len(report.languages)
    height = (0.36 if len(report.methods) <= CROWDED else 0.24) * len(report.methods) + 1.6
    return max(7.0, languages * cell_inches(languages) + _NAMES_WIDTH + 1.2), height


def draw_final(figure, report: Report, options: ReportOptions) -> None:
    """The final score of each method (rows, best AA first where they compare) on each language (columns)."""
    metric = options.metric
    languages = report.languages
    averages = {method.name: method.last("AA", metric) for method in report.methods}
    methods = list(report.methods)
    if report.comparable:
        methods.sort(key=lambda method: -np.nan_to_num(averages[method.name], nan=-1))
    values = np.full((len(methods), len(languages)), np.nan)
    for row, method in enumerate(methods):
        final = dict(zip(method.languages, method.final(metric)))
        values[row] = [final.get(language, np.nan) for language in languages]
    ax = figure.subplots()
    image = draw_cells(ax, values, np.ones_like(values, dtype=bool), limits_of(report, metric), options.ndigits, 7.5)
    label_axes(ax, [f"{m.name}   {number(averages[m.name], options.ndigits)}" for m in methods], languages, 9)
    ax.set_aspect("auto")
    ax.set_title(f"Final models: AA, then {metric} on each language")
    _colour_bar(figure, image, [ax], metric)


def _colour_bar(figure, image, axes, metric: str) -> None:
    bar = figure.colorbar(image, ax=axes, shrink=0.8, aspect=30, pad=0.02)
    bar.set_label(f"{metric} in %")
    bar.outline.set_visible(False)


def draw_costs(figure, report: Report) -> None:
    """Seconds of training and memory along the sequence."""

    def seconds(method: MethodReport) -> np.ndarray:
        return np.array([[step.train / step.languages for step in run.costs] or [np.nan] for run in method.runs])

    def memory(method: MethodReport) -> np.ndarray:
        return np.array([[step.peak_mib for step in run.costs] or [np.nan] for run in method.runs])

    pair = (measure_curves(report, seconds), measure_curves(report, memory))
    texts = (lambda value: number(value, 1), lambda value: number(value, 0, group=True))
    axes = draw_pair(figure, report, pair)
    for ax, title, unit in zip(axes, ("Training of each language", "Peak memory at each language"), ("seconds", "MiB")):
        ax.set_title(title)
        ax.set_ylabel(unit)
        ax.set_ylim(bottom=0)
    finish_pair(axes, report, pair, texts)
