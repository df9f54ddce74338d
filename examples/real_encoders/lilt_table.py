"""The table of examples/lilt/run_real_encoders.sh: what trained, and what captions find of their photos.

A cell is R@10, the mean of both directions; `unseen` the average of the languages that training had no captions of.

  python examples/real_encoders/lilt_table.py outputs/real_encoders/rows
"""

import argparse
import re
from pathlib import Path
from typing import Dict, List, Optional, Sequence

from rows import R_10, Row, difference

from mlvl_fairseq.cli.common import run
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.evaluation.report.tables import markdown_table
from mlvl_fairseq.files import read_text

ENGLISH, UNSEEN = "en", ("de", "fr", "cs", "pt", "zh", "ar", "nl")
FULL = "lit"  # with a frozen image tower, training everything is this
COUNTS = re.compile(r"num\. shared model params: ([\d,]+) \(num\. trained: ([\d,]+)\)")


class CountedRow(Row):
    """Of one preset with one text encoder.

    Attributes:
        trained, total: parameters.
    """

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.text = folder.parent.name
        if self.seeds:
            log = self.seeds[0] / "train.log"
            found = COUNTS.findall(read_text(log))
            if not found:
                raise DataError("does not say how many parameters trained; delete the folder and run again", log)
            self.total, self.trained = (int(number.replace(",", "")) for number in found[-1])


def table(rows: Sequence[CountedRow]) -> str:
    head = ["text", "trains", "parameters", "%", ENGLISH, *UNSEEN, "unseen", f"{ENGLISH} - {FULL}", f"unseen - {FULL}"]
    full: Dict[str, CountedRow] = {row.text: row for row in rows if row.name == FULL}
    lines = []
    for row in rows:
        cells = [row.text, row.name, f"{row.trained:,}", f"{100 * row.trained / row.total:.2f}"]
        cells += [row.score(langs, R_10) for langs in (*((lang,) for lang in (ENGLISH, *UNSEEN)), UNSEEN)]
        other = full.get(row.text, row)
        cells += ["" if other is row else difference(row, other, langs, R_10) for langs in ((ENGLISH,), UNSEEN)]
        lines.append(cells)
    return markdown_table(head, lines)


def main(argv: Optional[List[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", help="folder with TEXT/PRESET/seedN")
    args = parser.parse_args(argv)
    rows = [CountedRow(folder) for folder in sorted(Path(args.rows).glob("*/*")) if folder.is_dir()]
    rows = [row for row in rows if row.seeds]
    if not rows:
        raise UserError(f"{args.rows}: no row is finished")
    print(table(sorted(rows, key=lambda row: (row.text, -row.trained))))


if __name__ == "__main__":
    run(main)
