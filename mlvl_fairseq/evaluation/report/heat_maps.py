"""Heat maps on matplotlib axes: the score matrix of a method, the final scores of many methods."""

import math
from typing import Optional, Sequence, Tuple

import numpy as np

from mlvl_fairseq.evaluation.report.drawing import FAINT, TEXT
from mlvl_fairseq.evaluation.report.text import number

COLOUR_MAP = "viridis"
CROWDED = 12  # more languages than these are drawn smaller

Range = Tuple[float, float]


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
