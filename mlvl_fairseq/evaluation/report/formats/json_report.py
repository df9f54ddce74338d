"""``report.json``: everything, at full precision."""

from pathlib import Path
from typing import List

from mlvl_fairseq.evaluation.report.registry import ReportOptions, register_report_format
from mlvl_fairseq.evaluation.report.summary import Report
from mlvl_fairseq.files import write_json


@register_report_format("json")
def write(report: Report, options: ReportOptions) -> List[Path]:
    path = options.folder / "report.json"
    write_json(path, report.to_json())
    return [path]
