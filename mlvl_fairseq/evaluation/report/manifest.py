"""``run.json``: what a run says about itself."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List

from mlvl_fairseq.data.json_files import read_object
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.evaluation.report.fields import text_in
from mlvl_fairseq.evaluation.report.protocols import DEFAULT_PROTOCOL, PROTOCOLS, Protocol

MANIFEST = "run.json"


@dataclass(frozen=True)
class Manifest:
    """The settings of a run.

    Attributes:
        settings: all of them, as they were written.
        languages: in the order of learning.
        protocol: how they were learned.
    """

    settings: Dict[str, Any]
    languages: List[str]
    protocol: Protocol


def read_manifest(path: Path) -> Manifest:
    """Read a run's settings.

    Raises:
        DataError: it is damaged, or names no different languages or no known protocol.
    """
    settings = read_object(path)
    languages = settings.get("languages")
    if not isinstance(languages, list) or not languages or len(set(map(str, languages))) < len(languages):
        raise DataError(f"expected a list of different languages, found {languages!r}", path, field="languages")
    name = text_in({"protocol": DEFAULT_PROTOCOL, **settings}, "protocol", path)
    if name not in PROTOCOLS:
        raise DataError(f"unknown protocol {name!r}; there are: {', '.join(PROTOCOLS)}", path, field="protocol")
    return Manifest(settings, languages, PROTOCOLS[name])
