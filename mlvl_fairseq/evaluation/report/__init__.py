"""From the folder of a run, or of several, to one report: ``runs`` reads, ``summary`` computes, ``formats`` write."""

from mlvl_fairseq.evaluation.report.registry import ReportOptions, format_names, register_format, write_report
from mlvl_fairseq.evaluation.report.runs import Run, read_runs
from mlvl_fairseq.evaluation.report.summary import MethodReport, Report, summarise

__all__ = [
    "MethodReport",
    "Report",
    "ReportOptions",
    "Run",
    "format_names",
    "read_runs",
    "register_format",
    "summarise",
    "write_report",
]
