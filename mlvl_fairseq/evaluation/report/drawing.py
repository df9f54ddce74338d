"""Drawing on matplotlib axes: measures over the languages learned, and labels that do not overlap."""

import math
from dataclasses import dataclass
from typing import Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

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

Style = Dict[str, object]


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
