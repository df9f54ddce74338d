"""The tables of run_mclip.sh: how well captions and photos find each other, and how far the arms are apart.

r_mean is the mean of R@1, R@5 and R@10 of both directions. `unseen` is the average of the languages that training had
no captions of.

  python examples/real_encoders/mclip_table.py outputs/mclip_real_encoders/rows
"""

import argparse
from pathlib import Path
from typing import List, Optional

from rows import R_MEAN, difference, finished

from mlvl_fairseq.cli.common import run
from mlvl_fairseq.evaluation.report.tables import markdown_table

FULL = "trikd"
ENGLISH, UNSEEN = "en", ("de", "fr", "cs", "nl", "pt", "zh", "ar")
GROUPS = {"en": (ENGLISH,), "unseen": UNSEEN}


def main(argv: Optional[List[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path, help="folder with NAME/seedN")
    args = parser.parse_args(argv)
    arms = finished(args.rows.glob("*"), args.rows)
    full, lines = arms.get(FULL), []
    for arm in sorted(arms.values(), key=lambda arm: arm.name != FULL):
        cells = [arm.name, str(len(arm.seeds)), *(arm.score([lang], R_MEAN) for lang in (ENGLISH, *UNSEEN))]
        compared = full is not None and arm is not full
        cells += [arm.score(UNSEEN, R_MEAN)]
        cells += [difference(arm, full, langs, R_MEAN) if compared else "" for langs in GROUPS.values()]
        lines.append(cells)
    head = ["trained by", "seeds", ENGLISH, *UNSEEN, "unseen", *(f"{name} - {FULL}" for name in GROUPS)]
    print(markdown_table(head, lines))


if __name__ == "__main__":
    run(main)
