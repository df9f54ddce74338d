"""What tables show: the measures, the columns, and a figure with its deviation."""

from typing import Dict, NamedTuple, Tuple

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


class Figure(NamedTuple):
    """Mean and sample standard deviation over seeds; NaN where missing. One seed has no deviation (NaN)."""

    mean: float
    deviation: float

    @classmethod
    def of(cls, values: np.ndarray) -> "Figure":
        """Of one value a seed."""
        return cls(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else float("nan"))
