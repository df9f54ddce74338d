"""Published figures, to be shown beside ours; they are never mixed with them."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Dict, List, Sequence

from mlvl_fairseq.evaluation.report.tables import MEASURES, Figure

_FILE = Path(__file__).with_name("published.yaml")


@dataclass(frozen=True)
class PublishedMethod:
    """One row of a published table.

    Attributes:
        name: the method's name in our table of methods.
        setting: what it was trained and evaluated on.
        source: where it was published.
        figures: metric -> [AA, F, Fen] of the final model in %, as far as published.
    """

    name: str
    setting: str
    source: str
    figures: Dict[str, List[float]]
    is_published: ClassVar[bool] = True

    @property
    def label(self) -> str:
        """Its name in tables, which distinguishes it from ours."""
        return f"{self.name} (published, {self.setting})"

    def figure(self, measure: str, metrics: Sequence[str]) -> Figure:
        """AA, F or Fen at the end, the mean of some metrics; NaN if not published."""
        at = MEASURES.index(measure)
        values = [dict(enumerate(self.figures.get(metric, []))).get(at, math.nan) for metric in metrics]
        return Figure(sum(values) / len(values), math.nan)

    def to_json(self) -> Dict[str, Any]:
        named = {metric: dict(zip(MEASURES, values)) for metric, values in self.figures.items()}
        return {"source": self.source, "setting": self.setting, "figures": named}


def published_names() -> List[str]:
    """Names of the published tables."""
    return list(_read()["figures"])


def published_methods(table: str) -> Dict[str, PublishedMethod]:
    """Method -> its row in a table of :func:`published_names`."""
    data = _read()
    return {
        name: PublishedMethod(name, data["setting"], data["source"], dict(zip(data["metrics"], row)))
        for name, row in data["figures"][table].items()
    }


def _read() -> Dict[str, Any]:
    import yaml

    return yaml.safe_load(_FILE.read_text(encoding="utf-8"))
