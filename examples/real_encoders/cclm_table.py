"""The tables of examples/cclm/run_real_encoders.sh: how well captions and photos find each other.

r_mean is the mean of R@1, R@5 and R@10 of both directions. The first table is of vectors and all captions, the
second of the first caption of each photo, by vectors and with the best candidates put in order by the fusion encoder.

  python examples/real_encoders/cclm_table.py outputs/cclm_real_encoders/rows
"""

import argparse
from pathlib import Path
from typing import Dict, List, Optional

from rows import R_MEAN, Row, difference, finished

from mlvl_fairseq.cli.common import run
from mlvl_fairseq.evaluation.report.tables import markdown_table

FULL = "full"
CAPTIONS, SENTENCES, NOTHING = ("en", "de", "fr", "pt", "zh", "ar"), ("cs",), ("nl",)
GROUPS = {"captions": CAPTIONS, "cs": SENTENCES, "nl": NOTHING}  # what training had of a language
LANGUAGES = (*CAPTIONS, *SENTENCES, *NOTHING)


def of_vectors(arms: Dict[str, Row]) -> str:
    """What each training gives, and how far it is from the full one."""
    full = arms.get(FULL)
    head = ["trained on", *LANGUAGES, *(f"{name} - {FULL}" for name in GROUPS)]
    rows = []
    for arm in arms.values():
        compared = full is not None and arm is not full
        differences = [difference(arm, full, langs, R_MEAN, "vectors") if compared else "" for langs in GROUPS.values()]
        rows.append([arm.name, *(arm.score([lang], R_MEAN, "vectors") for lang in LANGUAGES), *differences])
    return markdown_table(head, rows)


def of_stages(arms: Dict[str, Row]) -> str:
    """What the fusion encoder makes of the order."""
    head = ["trained on", "captions in order of", *LANGUAGES, *(f"{name}: fusion - vectors" for name in GROUPS)]
    rows = []
    for arm in arms.values():
        gains = [difference(arm, arm, langs, R_MEAN, "reranked", "first") for langs in GROUPS.values()]
        for title, kind, more in (("vectors", "first", [""] * len(GROUPS)), ("fusion", "reranked", gains)):
            rows.append([arm.name, title, *(arm.score([lang], R_MEAN, kind) for lang in LANGUAGES), *more])
    return markdown_table(head, rows)


def main(argv: Optional[List[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path, help="folder with NAME/seedN")
    args = parser.parse_args(argv)
    arms = finished(args.rows.glob("*"), args.rows)
    print(of_vectors(arms), of_stages(arms), sep="\n\n")


if __name__ == "__main__":
    run(main)
