"""What the tables of this folder share: the finished seeds of one training, and how its scores compare with another's.

Scores are per cent; of several seeds the mean with the sample standard deviation. Differences have 95 % intervals of a
paired bootstrap over photos.
"""

import statistics
from pathlib import Path
from typing import Dict, Iterable, List, Sequence

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.evaluation.metrics.bootstrap import Difference, paired_bootstrap
from mlvl_fairseq.evaluation.metrics.query_ranks import QueryRanks
from mlvl_fairseq.json_files import read_object

R_MEAN, R_10 = ("r_mean",), ("txt_r10", "img_r10")


class Row:
    """The finished seeds of one training.

    Attributes:
        folder, name: what holds ``seedN``. seeds: their folders, those with a file ``done``.
    """

    def __init__(self, folder: Path):
        self.folder, self.name = folder, folder.name
        self.seeds = sorted(done.parent for done in folder.glob("seed*/done"))

    def score(self, langs: Sequence[str], metrics: Sequence[str], kind: str = "scores") -> str:
        """Mean of metrics and languages; `kind` is the folder of a seed that ``mlvl-evaluate`` wrote."""
        means = []
        for seed in self.seeds:
            found = [read_object(seed / kind / f"{lang}.val.json") for lang in langs]
            means.append(statistics.mean(float(one[metric]) for one in found for metric in metrics))
        deviation = f" ± {statistics.stdev(means):.1f}" if len(means) > 1 else ""
        return f"{statistics.mean(means):.1f}{deviation}"

    def ranks(self, lang: str, kind: str) -> List[QueryRanks]:
        return [QueryRanks.load(seed / kind / f"{lang}.val.ranks.npz") for seed in self.seeds]


def difference(
    first: Row, second: Row, langs: Sequence[str], metrics: Sequence[str], kind: str = "scores", other: str = ""
) -> str:
    """First minus second in points, of the seeds that both have; `kind` and `other`: see :meth:`Row.score`."""
    pairs = [list(zip(first.ranks(lang, kind), second.ranks(lang, other or kind))) for lang in langs]
    found = paired_bootstrap(pairs)
    whole = [found[metric] for metric in metrics]
    mean = Difference(sum(one.observed for one in whole) / len(whole), sum(one.draws for one in whole) / len(whole))
    low, high = mean.interval()
    return f"{mean.observed:+.1f} [{low:+.1f}, {high:+.1f}]"


def finished(folders: Iterable[Path], where: Path) -> Dict[str, Row]:
    """Rows by name. Raises UserError: no seed of any is done."""
    rows = {row.name: row for row in map(Row, sorted(folders)) if row.seeds}
    if not rows:
        raise UserError(f"{where}: no training is finished")
    return rows
