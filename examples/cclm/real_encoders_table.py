"""The tables of run_real_encoders.sh: how well captions and photos find each other, language by language.

r_mean is the mean of R@1, R@5 and R@10 of both directions, in %; of several seeds the mean with the sample standard
deviation. Differences have 95 % intervals of a paired bootstrap over photos. The first table is of vectors and all
captions, the second of the first caption of each photo, by vectors and with the best candidates put in order by the
fusion encoder.

  python examples/cclm/real_encoders_table.py outputs/cclm_real_encoders/rows
"""

import argparse
import statistics
from pathlib import Path
from typing import Dict, List, Optional, Sequence

from mlvl_fairseq.cli.common import run
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.evaluation.metrics.bootstrap import paired_bootstrap
from mlvl_fairseq.evaluation.metrics.query_ranks import QueryRanks
from mlvl_fairseq.evaluation.report.tables import markdown_table
from mlvl_fairseq.json_files import read_object

FULL = "full"
CAPTIONS, SENTENCES, NOTHING = ("en", "de", "fr", "pt", "zh", "ar"), ("cs",), ("nl",)
GROUPS = {"captions": CAPTIONS, "cs": SENTENCES, "nl": NOTHING}  # what training had of a language
LANGUAGES = (*CAPTIONS, *SENTENCES, *NOTHING)


class Arm:
    """The finished seeds of one training.

    Attributes:
        seeds: their folders.
    """

    def __init__(self, folder: Path):
        self.name, self.seeds = folder.name, sorted(done.parent for done in folder.glob("seed*/done"))

    def score(self, kind: str, langs: Sequence[str]) -> str:
        means = [
            statistics.mean(float(read_object(seed / kind / f"{lang}.val.json")["r_mean"]) for lang in langs)
            for seed in self.seeds
        ]
        deviation = f" ± {statistics.stdev(means):.1f}" if len(means) > 1 else ""
        return f"{statistics.mean(means):.1f}{deviation}"

    def ranks(self, kind: str, lang: str) -> List[QueryRanks]:
        return [QueryRanks.load(seed / kind / f"{lang}.val.ranks.npz") for seed in self.seeds]


def difference(first: Arm, kind: str, second: Arm, other: str, langs: Sequence[str]) -> str:
    """Of r_mean in points, first minus second, of the seeds that both have."""
    pairs = [list(zip(first.ranks(kind, lang), second.ranks(other, lang))) for lang in langs]
    found = paired_bootstrap(pairs)["r_mean"]
    low, high = found.interval()
    return f"{found.observed:+.1f} [{low:+.1f}, {high:+.1f}]"


def of_vectors(arms: Dict[str, Arm]) -> str:
    """What each training gives, and how far it is from the full one."""
    full = arms.get(FULL)
    head = ["trained on", *LANGUAGES, *(f"{name} - {FULL}" for name in GROUPS)]
    rows = []
    for arm in arms.values():
        compared = full is not None and arm is not full
        differences = [
            difference(arm, "vectors", full, "vectors", langs) if compared else "" for langs in GROUPS.values()
        ]
        rows.append([arm.name, *(arm.score("vectors", [lang]) for lang in LANGUAGES), *differences])
    return markdown_table(head, rows)


def of_stages(arms: Dict[str, Arm]) -> str:
    """What the fusion encoder makes of the order."""
    head = ["trained on", "captions in order of", *LANGUAGES, *(f"{name}: fusion - vectors" for name in GROUPS)]
    rows = []
    for arm in arms.values():
        gains = [difference(arm, "reranked", arm, "first", langs) for langs in GROUPS.values()]
        for title, kind, more in (("vectors", "first", [""] * len(GROUPS)), ("fusion", "reranked", gains)):
            rows.append([arm.name, title, *(arm.score(kind, [lang]) for lang in LANGUAGES), *more])
    return markdown_table(head, rows)


def main(argv: Optional[List[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path, help="folder with NAME/seedN")
    args = parser.parse_args(argv)
    arms = {arm.name: arm for arm in map(Arm, sorted(args.rows.glob("*"))) if arm.seeds}
    if not arms:
        raise UserError(f"{args.rows}: no training is finished")
    print(of_vectors(arms), of_stages(arms), sep="\n\n")


if __name__ == "__main__":
    run(main)
