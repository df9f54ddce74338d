"""Pictures: ``report.png`` (curves above matrices or final scores), and each part alone.

``curves.png``, ``matrix_{method}.png``; ``final.png`` of several methods; ``costs.png`` where costs are known.
"""

from functools import partial
from pathlib import Path
from typing import Callable, Dict, List

from tqdm import tqdm

from mlvl_fairseq.evaluation.report import panels
from mlvl_fairseq.evaluation.report.drawing import FAINT, TEXT
from mlvl_fairseq.evaluation.report.registry import ReportOptions, register_report_format
from mlvl_fairseq.evaluation.report.summary import MethodReport, Report
from mlvl_fairseq.evaluation.report.tables import file_stem
from mlvl_fairseq.files import atomic_path

DPI = 150
TITLE_HEIGHT = 0.6
_MANY = 12  # pictures, drawn with a progress bar
MATRICES_IN_REPORT = 6  # the report shows the final scores of more methods instead
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


@register_report_format("png")
def write(report: Report, options: ReportOptions) -> List[Path]:
    import matplotlib

    drawings: Dict[str, Callable] = {"report.png": _report_figure, "curves.png": _curves_figure}
    if not report.learners:  # nothing is learned step by step
        drawings = {"report.png": _final_figure}
    if len(report.methods) > 1:
        drawings["final.png"] = _final_figure
    if report.has_costs:
        drawings["costs.png"] = _costs_figure
    for method in report.sequences:
        drawings[f"matrix_{file_stem(method.name)}.png"] = partial(_matrix_figure, method)
    with matplotlib.rc_context(_STYLE):
        return [
            _save(draw(report, options), options.folder / name)
            for name, draw in tqdm(drawings.items(), desc="pictures", disable=len(drawings) < _MANY)
        ]


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
    as_matrices = 0 < len(report.sequences) <= MATRICES_IN_REPORT
    below = panels.matrices_size(report.sequences) if as_matrices else panels.final_size(report)
    curves = panels.curves_size(report)
    width = max(curves[0], below[0])
    figure = _figure(width, TITLE_HEIGHT + curves[1] + below[1])
    figure.suptitle(_title(report), fontsize=15, fontweight="bold")
    top, bottom = figure.subfigures(2, 1, height_ratios=[curves[1], below[1]])
    panels.draw_scores(top, report, options)
    margin = (width - below[0]) / 2
    if margin > 0:
        bottom = bottom.subfigures(1, 3, width_ratios=[margin, below[0], margin])[1]
    if as_matrices:
        panels.draw_matrices(bottom, report.sequences, panels.limits_of(report, options.metric), options)
    else:
        panels.draw_final(bottom, report, options)
    return figure


def _curves_figure(report: Report, options: ReportOptions):
    figure = _figure(*panels.curves_size(report))
    panels.draw_scores(figure, report, options)
    return figure


def _final_figure(report: Report, options: ReportOptions):
    figure = _figure(*panels.final_size(report))
    panels.draw_final(figure, report, options)
    return figure


def _costs_figure(report: Report, options: ReportOptions):
    figure = _figure(*panels.curves_size(report))
    panels.draw_costs(figure, report)
    return figure


def _matrix_figure(method: MethodReport, report: Report, options: ReportOptions):
    figure = _figure(*panels.matrices_size([method]))
    panels.draw_matrices(figure, [method], panels.limits_of(report, options.metric), options)
    return figure


def _title(report: Report) -> str:
    several = any(len(method.languages) > 1 for method in report.sequences)
    order = ", one after another" if several else ""
    seeds = max(len(method.runs) for method in report.methods)
    mean = f", mean over {seeds} seeds" if seeds > 1 else ""
    return f"{report.dataset} ({report.split} split): {report.languages_text}{order}{mean}"
