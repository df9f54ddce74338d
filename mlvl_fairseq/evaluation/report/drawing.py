"""Drawing on matplotlib axes: curves over the languages learned, labels that do not overlap, heat maps of scores."""

import math
from dataclasses import dataclass
from typing import Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from mlvl_fairseq.evaluation.report.tables import number
from mlvl_fairseq.files import atomic_path

# the palette of Okabe and Ito: safe for the colour-blind
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# where families are more than these: distinguishable, but no longer for everybody; lines carry their names then
MORE_COLOURS = (*COLOURS, "#8c564b", "#7f7f7f", "#6a3d9a", "#b2182b", "#1b7837", "#a6761d", "#4575b4", "#e7298a")
MARKERS = "osD^vPX"
DASHES = ("-", "--", ":", "-.")
LEVEL_DASHES = ((0, (6, 3)), (0, (2, 2)), (0, (6, 2, 1, 2)))
TEXT, FAINT = "#222222", "#8a8a8a"
LEGEND_LIMIT = len(COLOURS)  # more lines than these are labelled one by one
LABEL_INCHES = 0.135  # height of a small label
COLOUR_MAP = "viridis"
CROWDED = 12  # more languages than these are drawn smaller

Style = Dict[str, object]
Range = Tuple[float, float]
Line = Tuple[Sequence[float], Sequence[float]]


@dataclass(frozen=True)
class Curve:
    """A measure of one method over the steps.

    Attributes:
        name: the method.
        values: [steps] mean over seeds, NaN where undefined or missing; with `level`, [1].
        deviation: [steps] over seeds; None where there is one seed.
        style: of the line.
        level: a reference line across the axes instead of a curve.
    """

    name: str
    values: np.ndarray
    deviation: Optional[np.ndarray]
    style: Style
    level: bool = False

    @property
    def end(self) -> float:
        return float(self.values[-1])


def line_style(index: int) -> Style:
    """Colour, marker and dashes of the index-th of a few lines; they differ in more than colour."""
    dashes = DASHES[index // len(COLOURS) % len(DASHES)]
    return {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)], "linestyle": dashes}


def line_styles(names: Sequence[str]) -> Dict[str, Style]:
    """Few methods have a colour each. Of many, variants (what follows ``_with_``) share the colour of their method."""
    if len(names) <= len(COLOURS):
        return {name: line_style(index) for index, name in enumerate(names)}
    families: Dict[str, List[str]] = {}
    for name in names:
        families.setdefault(name.partition("_with_")[0], []).append(name)
    return {
        name: {"color": MORE_COLOURS[i % len(MORE_COLOURS)], "linestyle": DASHES[j % len(DASHES)], "marker": ""}
        for i, members in enumerate(families.values())
        for j, name in enumerate(members)
    }


def level_styles(names: Sequence[str]) -> Dict[str, Style]:
    """Dark dashed lines: what the curves are measured against."""
    return {n: {"color": TEXT, "linestyle": LEVEL_DASHES[i % len(LEVEL_DASHES)]} for i, n in enumerate(names)}


def draw_curves(ax, curves: Sequence[Curve], ticks: Sequence[str]) -> None:
    """One line a method over the steps of learning, with a band of its deviation.

    Args:
        ax: matplotlib axes.
        curves: at most :data:`LEGEND_LIMIT` are for a legend; more are drawn thinner.
        ticks: a label for each step.
    """
    many = len(curves) > LEGEND_LIMIT
    for curve in curves:
        (_draw_level if curve.level else _draw_line)(ax, curve, many)
    crowded = len(ticks) > 12
    ax.set_xticks(range(len(ticks)), ticks, rotation=90 if crowded else 0, fontsize=7.5 if crowded else 10)
    ax.set_xlim(-0.4, max(len(ticks) - 1, 1) + 0.4)
    ax.margins(y=0.06 if many else 0.12)
    ax.grid(axis="y", color="#e4e4e4", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def _draw_line(ax, curve: Curve, many: bool) -> None:
    steps = np.arange(len(curve.values))
    width = {"linewidth": 1.3} if many else {"linewidth": 2, "markersize": 5.5 if len(steps) <= 12 else 3.5}
    ax.plot(steps, curve.values, label=curve.name, **width, **curve.style)
    if curve.deviation is not None:
        low, high = curve.values - curve.deviation, curve.values + curve.deviation
        ax.fill_between(steps, low, high, color=curve.style["color"], alpha=0.06 if many else 0.18, linewidth=0)


def _draw_level(ax, curve: Curve, many: bool) -> None:
    if not math.isnan(curve.end):
        ax.axhline(curve.end, label=curve.name, linewidth=1.2 if many else 1.6, zorder=1.5, **curve.style)


def label_ends(ax, curves: Sequence[Curve], text: Callable[[float], str], inches: float) -> None:
    """Final values to the right of the axes, moved apart where they would overlap; none where one is missing.

    To be called when the limits of the axes are final. `inches` is their height. Of many curves the names are written,
    too, with a thin line from each end to its label.
    """
    many = len(curves) > LEGEND_LIMIT
    known = sorted((curve for curve in curves if not math.isnan(curve.end)), key=lambda curve: curve.end)
    low, high = ax.get_ylim()
    gap = (LABEL_INCHES if many else 0.2) / inches * (high - low)
    heights = spread([curve.end for curve in known], gap, (low, high))
    for curve, height in zip(known, heights):
        label = f"{text(curve.end)}  {curve.name}" if many else text(curve.end)
        font = {"fontsize": 7.5} if many else {"fontweight": "bold"}
        place = {"xytext": (1.07 if many else 1.015, height), "textcoords": ("axes fraction", "data"), "va": "center"}
        line = {"arrowstyle": "-", "color": curve.style["color"], "linewidth": 0.6, "shrinkA": 0, "shrinkB": 0}
        arrow = {**line, "relpos": (0, 0.5)} if many else None
        end = {"xy": (1.0, curve.end), "xycoords": ("axes fraction", "data"), "annotation_clip": False}
        ax.annotate(label, **end, **place, **font, color=curve.style["color"], arrowprops=arrow)


def spread(positions: Sequence[float], gap: float, limits: Tuple[float, float] = (-math.inf, math.inf)) -> List[float]:
    """Sorted positions moved apart to at least `gap`, each group of crowded ones staying centred on its mean.

    Groups stay within `limits` where they fit.
    """
    groups: List[List[float]] = []
    for position in positions:
        groups.append([position])
        while len(groups) > 1 and _overlap(groups[-2], groups[-1], gap, limits):
            groups[-2:] = [groups[-2] + groups[-1]]
    return [_start(group, gap, limits) + gap * i for group in groups for i in range(len(group))]


def _overlap(lower: List[float], upper: List[float], gap: float, limits: Tuple[float, float]) -> bool:
    return _start(upper, gap, limits) - _start(lower, gap, limits) < gap * len(lower)


def _start(group: List[float], gap: float, limits: Tuple[float, float]) -> float:
    height = gap * (len(group) - 1)
    centred = sum(group) / len(group) - height / 2
    return max(limits[0], min(centred, limits[1] - height))


def draw_lines(
    path,
    curves: Dict[str, Line],
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


def draw_matrix(ax, matrix: np.ndarray, languages: Sequence[str], limits: Range, ndigits: Optional[int]):
    """The lower triangle with a number in each cell (none if `ndigits` is None); the image for a colour bar."""
    size = len(languages)
    shown = np.tril(np.ones((size, size), dtype=bool))
    image = draw_cells(ax, matrix, shown, limits, ndigits, cell_font(size))
    label_font = 10 if size <= CROWDED else 7 if ndigits is not None else 5.5
    label_axes(ax, languages, languages, label_font)
    return image


def draw_cells(ax, values: np.ndarray, shown: np.ndarray, limits: Range, ndigits: Optional[int], font: float):
    """Cells [rows, columns] where `shown`; NaN is hatched."""
    known = np.ma.masked_where(~shown | np.isnan(values), values)
    image = ax.imshow(known, cmap=COLOUR_MAP, vmin=limits[0], vmax=limits[1], aspect="equal")
    for row, column in zip(*np.nonzero(shown)):
        value = values[row, column]
        missing = math.isnan(value)
        if missing:
            _draw_missing(ax, row, column)
        if ndigits is not None:
            colour = FAINT if missing else _readable_on(image.cmap(image.norm(value)))
            ax.text(column, row, number(value, ndigits), ha="center", va="center", fontsize=font, color=colour)
    return image


def label_axes(ax, rows: Sequence[str], columns: Sequence[str], font: float) -> None:
    """Names of rows and columns, white lines between the cells."""
    crowded = len(columns) > CROWDED
    ax.set_xticks(range(len(columns)), columns, rotation=90 if crowded else 0)
    ax.set_yticks(range(len(rows)), rows)
    ax.tick_params(length=0, labelsize=font)
    ax.spines[:].set_visible(False)
    width, height = len(columns) - 0.5, len(rows) - 0.5
    lines = {"colors": "white", "linewidth": 0.6 if crowded else 1.5}
    ax.hlines(np.arange(-0.5, height + 1), -0.5, width, **lines)
    ax.vlines(np.arange(-0.5, width + 1), -0.5, height, **lines)


def cell_font(size: int) -> float:
    """Font size of a cell's number in a matrix of `size` languages."""
    return 9.0 if size <= CROWDED else 6.0


def cell_inches(size: int, numbers: bool = True) -> float:
    """Edge of a cell."""
    return 0.52 if size <= CROWDED else 0.34 if numbers else 0.115


def _draw_missing(ax, row: int, column: int) -> None:
    from matplotlib.patches import Rectangle

    style = {"facecolor": "#f2f2f2", "edgecolor": "#d0d0d0", "hatch": "///", "linewidth": 0}
    ax.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, **style))


def _readable_on(colour) -> str:
    red, green, blue = colour[:3]
    return TEXT if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"
