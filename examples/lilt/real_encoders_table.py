"""The table of run_real_encoders.sh: what trained, and what captions find of their photos.

A cell is R@10, the mean of both directions, over seeds with its sample standard deviation; `unseen` the average of the
languages that training had no captions of. Differences to `lit` have 95 % intervals of a paired bootstrap over photos.

  python examples/lilt/real_encoders_table.py outputs/real_encoders/rows
"""

import argparse
import json
import re
import statistics
from pathlib import Path
from typing import Dict, List, Optional, Sequence

from mlvl_fairseq.cli.common import run
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.evaluation.metrics.bootstrap import paired_bootstrap
from mlvl_fairseq.evaluation.metrics.query_ranks import QueryRanks
from mlvl_fairseq.files import read_text

ENGLISH, UNSEEN = "en", ("de", "fr", "cs", "pt", "zh", "ar", "nl")
FULL = "lit"  # with a frozen image tower, training everything is this
COUNTS = re.compile(r"num\. shared model params: ([\d,]+) \(num\. trained: ([\d,]+)\)")


class Row:
    """The seeds of one preset with one text encoder.

    Attributes:
        seeds: their folders. trained, total: parameters.
    """

    def __init__(self, folder: Path):
        self.text, self.preset = folder.parent.name, folder.name
        self.seeds = sorted(done.parent for done in folder.glob("seed*/done"))
        if self.seeds:
            log = self.seeds[0] / "train.log"
            found = COUNTS.findall(read_text(log))
            if not found:
                raise DataError("does not say how many parameters trained; delete the folder and run again", log)
            self.total, self.trained = (int(number.replace(",", "")) for number in found[-1])

    def recalls(self, langs: Sequence[str]) -> List[float]:
        """Of each seed: R@10 in per cent, mean of both directions and of the languages."""
        scores = [
            [json.loads(read_text(seed / "scores" / f"{lang}.val.json")) for lang in langs] for seed in self.seeds
        ]
        return [statistics.mean((one["txt_r10"] + one["img_r10"]) / 2 for one in seed) for seed in scores]

    def ranks(self, lang: str) -> List[QueryRanks]:
        return [QueryRanks.load(seed / "scores" / f"{lang}.val.ranks.npz") for seed in self.seeds]


def cell(values: Sequence[float]) -> str:
    deviation = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{deviation}"


def difference(row: Row, full: Optional[Row], langs: Sequence[str]) -> str:
    """Of R@10, in points, between the seeds that both have."""
    if full is None or row is full:
        return ""
    count = min(len(row.seeds), len(full.seeds))
    pairs = [list(zip(row.ranks(lang), full.ranks(lang)))[:count] for lang in langs]
    found = paired_bootstrap(pairs)
    both = [found["txt_r10"], found["img_r10"]]
    draws = (both[0].draws + both[1].draws) / 2
    observed = (both[0].observed + both[1].observed) / 2
    low, high = type(both[0])(observed, draws).interval()
    return f"{observed:+.1f} [{low:+.1f}, {high:+.1f}]"


def table(rows: Sequence[Row]) -> str:
    head = ["text", "trains", "parameters", "%", ENGLISH, *UNSEEN, "unseen", f"{ENGLISH} - {FULL}", f"unseen - {FULL}"]
    lines = [head, ["---"] * 2 + ["---:"] * (len(head) - 2)]
    full: Dict[str, Row] = {row.text: row for row in rows if row.preset == FULL}
    for row in rows:
        cells = [row.text, row.preset, f"{row.trained:,}", f"{100 * row.trained / row.total:.2f}"]
        cells += [cell(row.recalls([lang])) for lang in (ENGLISH, *UNSEEN)] + [cell(row.recalls(UNSEEN))]
        cells += [difference(row, full.get(row.text), langs) for langs in ((ENGLISH,), UNSEEN)]
        lines.append(cells)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(argv: Optional[List[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", help="folder with TEXT/PRESET/seedN")
    args = parser.parse_args(argv)
    rows = [Row(folder) for folder in sorted(Path(args.rows).glob("*/*")) if folder.is_dir()]
    rows = [row for row in rows if row.seeds]
    if not rows:
        raise UserError(f"{args.rows}: no row is finished")
    print(table(sorted(rows, key=lambda row: (row.text, -row.trained))))


if __name__ == "__main__":
    run(main)
