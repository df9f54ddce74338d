"""The table of run_generated.sh: how much trained, and what captions and names of classes find, language by language.

r_mean is the mean of R@1, R@5 and R@10 of both directions, top1 the share of pictures whose class is found by its
name, both in %; of several seeds the mean with the sample standard deviation. `unseen` is the average of the languages
that alignment had no captions of.

  python examples/lilt/generated_table.py outputs/lilt_generated/rows --languages en,de,es,cs,zh
"""

import argparse
import re
import statistics
from pathlib import Path
from typing import List, Optional, Sequence, Tuple

from mlvl_fairseq.cli.common import language_order, run
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.evaluation.report.tables import markdown_table
from mlvl_fairseq.files import atomic_path, read_text
from mlvl_fairseq.json_files import read_object

COUNTS = re.compile(r"([\d,]+) of ([\d,]+) parameters train")
SCORES = {"r_mean": "retrieval", "top1": "classification"}  # score -> folder of its files


class Row:
    """The finished seeds of one preset.

    Attributes:
        preset: its name. seeds: their folders. trained: number of parameters. percent: of all that there are.
    """

    def __init__(self, folder: Path):
        self.preset, self.seeds = folder.name, sorted(done.parent for done in folder.glob("seed*/done"))
        if self.seeds:
            log = self.seeds[0] / "train.log"
            found = COUNTS.findall(read_text(log))
            if not found:
                raise DataError("does not say how many parameters trained; delete the folder and run again", log)
            self.trained, total = (int(number.replace(",", "")) for number in found[-1])
            self.percent = 100 * self.trained / total

    def scores(self, metric: str, langs: Sequence[str]) -> List[float]:
        """Of each seed, the mean of some languages."""
        return [
            statistics.mean(float(read_object(seed / SCORES[metric] / f"{lang}.test.json")[metric]) for lang in langs)
            for seed in self.seeds
        ]


def cell(values: Sequence[float]) -> str:
    deviation = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{deviation}"


def table(rows: Sequence[Row], languages: Sequence[str]) -> str:
    """Markdown: a row for each preset."""
    columns: List[Tuple[str, Sequence[str]]] = [(lang, [lang]) for lang in languages]
    columns.append(("unseen", languages[1:]))
    header = ["trains", "parameters", "%", *(f"{metric} {name}" for metric in SCORES for name, _ in columns)]
    cells = [
        [row.preset, f"{row.trained:,}", f"{row.percent:.2f}"]
        + [cell(row.scores(metric, langs)) for metric in SCORES for _, langs in columns]
        for row in rows
    ]
    return markdown_table(header, cells)


def draw(rows: Sequence[Row], languages: Sequence[str], path: Path) -> None:
    """Per cent trained against both scores, of English and of the unseen languages."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(SCORES), figsize=(9, 4), layout="constrained")
    for ax, metric in zip(axes, SCORES):
        for label, langs, marker in ((languages[0], languages[:1], "o"), ("unseen languages", languages[1:], "s")):
            scores = [statistics.mean(row.scores(metric, langs)) for row in rows]
            ax.plot([row.percent for row in rows], scores, marker, label=label)
            for row, score in zip(rows, scores):
                ax.annotate(row.preset, (row.percent, score), (4, 3), textcoords="offset points", fontsize=7)
        ax.set_xscale("log")
        ax.set_xlabel("trained, % of parameters")
        ax.set_ylabel(f"{metric}, %")
    axes[0].legend()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130)
    pyplot.close(figure)


def main(argv: Optional[List[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path, help="folder with PRESET/seedN")
    parser.add_argument("--languages", required=True, metavar="LIST", help="that of alignment first")
    parser.add_argument("--picture", type=Path, metavar="FILE.png", help="draw it, too")
    args = parser.parse_args(argv)
    languages = language_order(args.languages)
    if len(languages) < 2:
        raise UserError(f"--languages {args.languages}: give one that aligned and others that did not")
    rows = [row for row in map(Row, sorted(args.rows.glob("*"))) if row.seeds]
    if not rows:
        raise UserError(f"{args.rows}: no row is finished")
    rows.sort(key=lambda row: -row.trained)
    print(table(rows, languages))
    if args.picture:
        draw(rows, languages, args.picture)


if __name__ == "__main__":
    run(main)
