"""What tables show, and how: measures, columns, figures with their deviation, numbers and Markdown tables as text."""

import math
import re
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

MEASURES = ("AA", "F", "Fen")
ARROWS = {"AA": "↑", "F": "↓", "Fen": "↓"}  # where better is
# heading -> the metrics whose figures are averaged
COLUMNS: Dict[str, Tuple[str, ...]] = {
    "r_mean": ("r_mean",),
    "i2t R@1": ("txt_r1",),
    "t2i R@1": ("img_r1",),
    "mean R@10": ("txt_r10", "img_r10"),
}
MISSING = "n/a"


class Figure(NamedTuple):
    """Mean and sample standard deviation over seeds; NaN where missing. One seed has no deviation (NaN)."""

    mean: float
    deviation: float

    @classmethod
    def of(cls, values: np.ndarray) -> "Figure":
        """Of one value a seed."""
        return cls(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else float("nan"))


def number(value: float, ndigits: int, group: bool = False) -> str:
    """Fixed-point, or n/a for NaN; `group`: thousands apart."""
    if math.isnan(value):
        return MISSING
    text = f"{value:{',' if group else ''}.{ndigits}f}"
    return text.lstrip("-") if not text.strip("-0.") else text  # no -0.0


def figure_text(figure: Figure, ndigits: int) -> str:
    """``40.8 ± 0.3``, without the deviation where there is none."""
    mean = number(figure.mean, ndigits)
    return mean if math.isnan(figure.deviation) else f"{mean} ± {number(figure.deviation, ndigits)}"


def file_stem(name: str) -> str:
    """A name as part of a file name."""
    return re.sub(r"[^\w.-]+", "_", name)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table: first column to the left, numbers to the right, padded so that the source reads well."""
    columns = list(zip(header, *rows))
    widths = [max(3, *(len(cell) for cell in column)) for column in columns]
    lines = [_line(header, widths), "|" + "|".join(_rule(i, width) for i, width in enumerate(widths)) + "|"]
    return "\n".join([*lines, *(_line(row, widths) for row in rows)])


def _line(cells: Sequence[str], widths: List[int]) -> str:
    padded = [cell.rjust(width) if i else cell.ljust(width) for i, (cell, width) in enumerate(zip(cells, widths))]
    return "| " + " | ".join(padded) + " |"


def _rule(i: int, width: int) -> str:
    return "-" * (width + 1) + ":" if i else "-" * (width + 2)


def value_table(
    corner: str, columns: Sequence[str], rows: Dict[str, Sequence[Optional[float]]], digits: int = 4
) -> str:
    """A Markdown table of significant digits, n/a where a value is None."""
    cells = [
        [name, *(MISSING if value is None else f"{value:.{digits}g}" for value in row)] for name, row in rows.items()
    ]
    return markdown_table([corner, *columns], cells)
