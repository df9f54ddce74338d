"""Registry of report formats: a format is one file in ``formats/`` with one decorated function."""

import importlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable, Dict, List, Tuple

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.evaluation.report.summary import Report
from mlvl_fairseq.registry import registering


@dataclass(frozen=True)
class ReportOptions:
    """How a report is written.

    Attributes:
        folder: where the files go.
        metric: the one shown in matrices and pictures.
        ndigits: decimals of scores.
        formats: registered names; empty for all.
    """

    folder: Path
    metric: str = "r_mean"
    ndigits: int = 1
    formats: Tuple[str, ...] = ()


Writer = Callable[[Report, ReportOptions], List[Path]]
_WRITERS: Dict[str, Writer] = {}


def register_report_format(name: str) -> Callable[[Writer], Writer]:
    """Register a function that writes a report in one format and returns the paths of its files."""
    return registering(_WRITERS, "a report format", name)


def format_names() -> List[str]:
    """Every registered format, sorted."""
    importlib.import_module("mlvl_fairseq.evaluation.report.formats")
    return sorted(_WRITERS)


def write_report(report: Report, options: ReportOptions) -> List[Path]:
    """Write a report and return the paths of its files.

    Raises:
        UserError: unknown format.
        OSError: a file cannot be written; files that were there before stay whole.
    """
    known = format_names()
    unknown = sorted(set(options.formats) - set(known))
    if unknown:
        raise UserError(f"unknown report format {', '.join(unknown)}; there are: {', '.join(known)}")
    options = replace(options, formats=options.formats or tuple(known))
    options.folder.mkdir(parents=True, exist_ok=True)
    return [path for name in options.formats for path in _WRITERS[name](report, options)]
