"""The table of presets of what trains in a network with an image tower and a text tower: presets.yaml."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Dict, Sequence, Tuple

import yaml

from mlvl_fairseq.errors import UserError

TABLE = Path(__file__).with_name("presets.yaml")
SIDES = ("image", "text")
Part = Tuple[str, str]  # side, and part of its tower; "": all of it


@dataclass(frozen=True)
class Preset:
    """What trains and what is added.

    Attributes:
        trains, adds: (side, part), see the table.
        keeps_heads: the projections do not train.
    """

    trains: Sequence[Part] = ()
    adds: Sequence[Part] = ()
    keeps_heads: bool = False

    def __add__(self, other: "Preset") -> "Preset":
        trains, adds = (tuple(dict.fromkeys(mine)) for mine in (self.trains + other.trains, self.adds + other.adds))
        return Preset(trains, adds, self.keeps_heads or other.keeps_heads)

    def parts(self, side: str) -> Sequence[str]:
        """What trains of one side."""
        return [part for own, part in self.trains if own == side]

    def of_side(self, side: str) -> "Preset":
        """The same for one side; the other one stays as it is."""
        trains, adds = (tuple(part for part in mine if part[0] == side) for mine in (self.trains, self.adds))
        return Preset(trains, adds, self.keeps_heads)


@lru_cache(maxsize=1)
def _rows() -> Dict[str, Dict[str, Any]]:
    return yaml.safe_load(TABLE.read_text(encoding="utf-8"))


def list_presets() -> Dict[str, str]:
    """Names and descriptions."""
    found = {}
    for name, row in _rows().items():
        published = f" ({row['published_as']})" if "published_as" in row else ""
        found[name] = f"{row['about']}{published}"
    return found


def preset(name: str) -> Preset:
    """A preset by its name, the paper's name, or several joined by +.

    Raises:
        UserError: there is none of this name.
    """
    total = Preset()
    for word in name.split("+"):
        total = total + _preset(word)
    return total


def _preset(word: str) -> Preset:
    published = {row["published_as"]: name for name, row in _rows().items() if "published_as" in row}
    name, _, side = word.rpartition("_")
    if word in _rows() or word in published:
        row = _rows()[published.get(word, word)]
        if "same_as" in row:
            return preset(row["same_as"])
        trains, adds = (tuple(map(_part, row.get(key, ()))) for key in ("trains", "adds"))
        return Preset(trains, adds, row.get("keeps") == "heads")
    if side in SIDES and name in _rows() and {own for own, _ in preset(name).trains + preset(name).adds} == set(SIDES):
        return preset(name).of_side(side)
    raise UserError(
        f"--preset {word}: there are {', '.join(_rows())}; for one tower ..._image, ..._text; joined by + as in lwa+ln"
    )


def _part(text: str) -> Part:
    side, _, part = text.partition(".")
    return side, part
