"""Classification, class by class: a table of accuracies, and a picture of what was taken for what."""

import csv
import io
import math
import warnings
from typing import List, Sequence

import numpy as np

from mlvl_fairseq.evaluation.metrics.classification import class_accuracies, confusion_matrix, most_taken_for
from mlvl_fairseq.evaluation.report.drawing import COLOUR_MAP, TEXT
from mlvl_fairseq.evaluation.report.tables import number
from mlvl_fairseq.files import atomic_path, write_text

MOST_NAMED = 60  # more classes than these are numbered along the axes
MOST_DRAWN = 2000  # more are not drawn: a picture of 4 million cells says nothing, and the matrix takes 32 MB
MOST_WRITTEN = 20  # fewer have a number in each cell


def write_classes(path, keys: Sequence[str], names: Sequence[str], ranks, labels, predicted) -> None:
    """A CSV table, a row for each class: images, accuracy among the best one and the five best in %, and which class
    its images were most often taken for.

    Args:
        keys, names: of the classes, see :class:`mlvl_fairseq.data.classification.base.LabelledImages`.
        ranks, labels, predicted: of the images, see :mod:`mlvl_fairseq.evaluation.metrics.classification`.
    """
    classes = len(keys)
    images = np.bincount(labels, minlength=classes)
    top1, top5 = (class_accuracies(ranks, labels, classes, k) for k in (1, 5))
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["class", "name", "images", "top1", "top5", "most_taken_for", "times"])
    for row, (other, times) in enumerate(most_taken_for(labels, predicted, classes)):
        taken = [names[other], times] if times else ["", 0]
        table.writerow([keys[row], names[row], images[row], number(top1[row], 4), number(top5[row], 4), *taken])
    write_text(path, out.getvalue())


def draw_confusion(path, names: Sequence[str], labels, predicted, title: str) -> None:
    """A PNG: rows are the right classes, columns what their images were taken for, in % of the row; written atomically.

    Not more than `MOST_DRAWN` classes; `names` are what the axes say (keys of classes: fonts lack many a script).
    """
    from matplotlib.figure import Figure

    counts = confusion_matrix(labels, predicted, len(names))
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = len(names)
    inches = min(14.0, max(4.0, 0.45 * size if size <= MOST_WRITTEN else 0.16 * size))
    figure = Figure(figsize=(inches + 2.2, inches + 1.2), dpi=150, layout="constrained")
    ax = figure.subplots()
    image = ax.imshow(shares, cmap=COLOUR_MAP, vmin=0, vmax=100, aspect="equal", interpolation="nearest")
    if size <= MOST_WRITTEN:
        for row, column in zip(*np.nonzero(counts)):
            colour = TEXT if shares[row, column] > 60 else "white"
            ax.text(column, row, f"{shares[row, column]:.0f}", ha="center", va="center", fontsize=7.5, color=colour)
    if size <= MOST_NAMED:
        shown, font = _shown(names), 9 if size <= MOST_WRITTEN else 6
        ax.set_xticks(range(size), shown, rotation=90, fontsize=font)
        ax.set_yticks(range(size), shown, fontsize=font)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set(title=_plain(title), xlabel="taken for", ylabel="right class")
    figure.colorbar(image, ax=ax, shrink=0.8, label="% of the class's images")
    with atomic_path(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # what the font lacks; the CSV has it
        figure.savefig(temporary, format="png")


def _shown(names: Sequence[str], longest: int = 28) -> List[str]:
    return [_plain(name if len(name) <= longest else f"{name[: math.floor(longest) - 1]}…") for name in names]


def _plain(text: str) -> str:
    """Names are no formulas: matplotlib reads what is between two dollars as one."""
    return text.replace("$", r"\$")
