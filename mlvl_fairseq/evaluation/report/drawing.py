"""Drawing on matplotlib axes: a score matrix as a heat map, a measure over the languages learned."""

import math
from typing import Dict, List, Sequence, Tuple

import numpy as np

from mlvl_fairseq.evaluation.report.text import number

# the palette of Okabe and Ito: safe for the colour-blind
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX"
COLOUR_MAP = "viridis"
TEXT, FAINT = "#222222", "#8a8a8a"

Range = Tuple[float, float]


def line_style(index: int) -> Dict[str, object]:
    """Colour, marker and dashes of the index-th method; they differ in more than colour."""
    dashes = ("-", "--", ":")[index // len(COLOURS) % 3]
    return {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)], "linestyle": dashes}


def draw_matrix(ax, matrix: np.ndarray, languages: Sequence[str], limits: Range, ndigits: int):
    """Heat map of the lower triangle with a number in each cell, n/a hatched; returns the image for a colour bar."""
    size = len(languages)
    lower = np.tril(np.ones((size, size), dtype=bool))
    known = np.ma.masked_where(~lower | np.isnan(matrix), matrix)
    image = ax.imshow(known, cmap=COLOUR_MAP, vmin=limits[0], vmax=limits[1])
    font = cell_font(size)
    for step, j in zip(*np.nonzero(lower)):
        score = matrix[step, j]
        if math.isnan(score):
            _draw_missing(ax, step, j)
        colour = FAINT if math.isnan(score) else _readable_on(image.cmap(image.norm(score)))
        ax.text(j, step, number(score, ndigits), ha="center", va="center", fontsize=font, color=colour)
    ax.set_xticks(range(size), languages)
    ax.set_yticks(range(size), languages)
    ax.tick_params(length=0, labelsize=10 if size <= 12 else 7)
    ax.spines[:].set_visible(False)
    ax.set_xticks(np.arange(size + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(size + 1) - 0.5, minor=True)
    ax.grid(which="minor", color="white", linewidth=1.5 if size <= 12 else 0.8)
    ax.tick_params(which="minor", length=0)
    return image


def cell_font(size: int) -> float:
    """Font size of a cell's number in a matrix of `size` languages."""
    return 9.0 if size <= 12 else 6.0


def cell_inches(size: int) -> float:
    """Edge of a cell."""
    return 0.52 if size <= 12 else 0.34


def _draw_missing(ax, step: int, j: int) -> None:
    from matplotlib.patches import Rectangle

    cell = Rectangle((j - 0.5, step - 0.5), 1, 1, facecolor="#f2f2f2", edgecolor="#d0d0d0", hatch="///", linewidth=0)
    ax.add_patch(cell)


def _readable_on(colour) -> str:
    red, green, blue = colour[:3]
    return TEXT if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"


def draw_curves(ax, curves: Dict[str, np.ndarray], ticks: Sequence[str], ndigits: int) -> None:
    """One line a method over the steps of learning, its last value written at its end.

    Args:
        ax: matplotlib axes.
        curves: method -> [steps] values, NaN where undefined or missing.
        ticks: a label for each step.
        ndigits: decimals of the last value.
    """
    for index, (name, values) in enumerate(curves.items()):
        ax.plot(range(len(values)), values, label=name, linewidth=2, markersize=5.5, **line_style(index))
    crowded = len(ticks) > 12
    ax.set_xticks(range(len(ticks)), ticks, rotation=90 if crowded else 0, fontsize=7.5 if crowded else 10)
    ax.set_xlim(-0.4, max(len(ticks) - 1, 1) + 0.4)
    ax.margins(y=0.12)
    ax.grid(axis="y", color="#e4e4e4", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    _label_ends(ax, list(curves.values()), ndigits)


def _label_ends(ax, curves: List[np.ndarray], ndigits: int) -> None:
    """Final values to the right of the axes, moved apart where they would overlap; none where it is missing."""
    known = sorted((values[-1], index) for index, values in enumerate(curves) if not math.isnan(values[-1]))
    low, high = ax.get_ylim()
    heights = spread([end for end, _ in known], gap=0.075 * (high - low))
    for (end, index), height in zip(known, heights):
        position = {"xy": (1.0, height), "xycoords": ("axes fraction", "data")}
        offset = {"xytext": (6, 0), "textcoords": "offset points", "va": "center"}
        colour = line_style(index)["color"]
        ax.annotate(number(end, ndigits), **position, **offset, color=colour, fontweight="bold", annotation_clip=False)


def spread(positions: Sequence[float], gap: float) -> List[float]:
    """Sorted positions moved apart to at least `gap`, each group of crowded ones staying centred on its mean."""
    groups: List[List[float]] = []
    for position in positions:
        groups.append([position])
        while len(groups) > 1 and _start(groups[-1], gap) - _start(groups[-2], gap) < gap * len(groups[-2]):
            groups[-2:] = [groups[-2] + groups[-1]]
    return [_start(group, gap) + gap * i for group in groups for i in range(len(group))]


def _start(group: List[float], gap: float) -> float:
    return sum(group) / len(group) - gap * (len(group) - 1) / 2
