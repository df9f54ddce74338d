"""The table of run_generated.sh: retrieval and boxes of each training, language by language.

r_mean is the mean of R@1, R@5 and R@10 of both directions: by vectors, and with the best candidates put in order by the
fusion encoder; IoU is of the box that a text is given in its picture, with the share of texts for which it is more than
a half. All in %; of several seeds the mean with the sample standard deviation. Languages of captions are those that
pictures were told in; the others were in parallel text only.

  python examples/cclm/generated_table.py outputs/cclm_generated/rows --image-languages en,de --text-languages es,cs
"""

import argparse
import statistics
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

from mlvl_fairseq.cli.common import language_order, run
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.evaluation.report.tables import markdown_table
from mlvl_fairseq.json_files import read_object

# what a row shows: title, folder of the scores, name of the score
SCORES: Sequence[Tuple[str, str, str]] = (
    ("r_mean by vectors", "retrieval", "first_r_mean"),
    ("r_mean put in order", "retrieval", "r_mean"),
    ("IoU", "boxes", "iou"),
    ("IoU above 50", "boxes", "above_50"),
)


def seeds_of(folder: Path) -> List[Path]:
    """Folders of the finished trainings."""
    return sorted(done.parent for done in folder.glob("seed*/done"))


def score(seed: Path, kind: str, metric: str, langs: Sequence[str]) -> float:
    """The mean of some languages."""
    return statistics.mean(float(read_object(seed / kind / f"{lang}.test.json")[metric]) for lang in langs)


def cell(values: Sequence[float]) -> str:
    deviation = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{deviation}"


def table(rows: Dict[str, List[Path]], captions: Sequence[str], texts: Sequence[str]) -> str:
    """Markdown: four lines for each training."""
    columns: List[Tuple[str, Sequence[str]]] = [(lang, [lang]) for lang in (*captions, *texts)]
    columns += [("captions", captions), ("text only", texts)]
    cells = [
        [name, title, *(cell([score(seed, kind, metric, langs) for seed in seeds]) for _, langs in columns)]
        for name, seeds in rows.items()
        for title, kind, metric in SCORES
    ]
    return markdown_table(["trained on", "score", *(title for title, _ in columns)], cells)


def main(argv: Optional[List[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path, help="folder with NAME/seedN")
    parser.add_argument("--image-languages", required=True, metavar="LIST", help="those that pictures were told in")
    parser.add_argument("--text-languages", required=True, metavar="LIST", help="those of parallel text only")
    args = parser.parse_args(argv)
    rows = {folder.name: seeds_of(folder) for folder in sorted(args.rows.glob("*"))}
    rows = {name: seeds for name, seeds in rows.items() if seeds}
    if not rows:
        raise UserError(f"{args.rows}: no training is finished")
    print(table(rows, language_order(args.image_languages), language_order(args.text_languages)))


if __name__ == "__main__":
    run(main)
