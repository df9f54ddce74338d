"""What analyses found in several runs, side by side: Markdown tables and curves."""

from typing import Dict, List, Optional, Sequence, Tuple

from mlvl_fairseq.evaluation.report.drawing import line_style
from mlvl_fairseq.evaluation.report.text import MISSING, markdown_table
from mlvl_fairseq.files import atomic_path

Curve = Tuple[Sequence[float], Sequence[float]]


def value_table(
    corner: str, columns: Sequence[str], rows: Dict[str, Sequence[Optional[float]]], digits: int = 4
) -> str:
    """A Markdown table of significant digits, n/a where a value is None."""
    cells = [
        [name, *(MISSING if value is None else f"{value:.{digits}g}" for value in row)] for name, row in rows.items()
    ]
    return markdown_table([corner, *columns], cells)


def draw_lines(
    path,
    curves: Dict[str, Curve],
    title: str,
    x_label: str,
    y_label: str,
    ticks: Optional[List[str]] = None,
) -> None:
    """A PNG with one line a name, written atomically.

    Args:
        path: of the picture.
        curves: name -> (x values, y values).
        title, x_label, y_label: of the picture.
        ticks: labels of x = 0, 1, ...; None: numbers.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(6.4, 0.3 * len(ticks or ())), 4), dpi=150, layout="constrained")
    ax = figure.subplots()
    for index, (name, (x, y)) in enumerate(curves.items()):
        ax.plot(x, y, label=name, linewidth=2, markersize=5, **line_style(index))
    if ticks:
        ax.set_xticks(range(len(ticks)), ticks, rotation=90 if len(ticks) > 12 else 0)
    ax.set(title=title, xlabel=x_label, ylabel=y_label)
    ax.grid(axis="y", color="#e4e4e4", linewidth=0.8)
    ax.spines[["top", "right"]].set_visible(False)
    if len(curves) > 1:
        ax.legend(frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
