"""From the folders of runs to one report: ``runs`` reads, ``summary`` computes, ``formats`` write."""

from mlvl_fairseq.evaluation.report.comparison import Comparison, compare
from mlvl_fairseq.evaluation.report.published import published_methods, published_names
from mlvl_fairseq.evaluation.report.registry import ReportOptions, format_names, register_report_format, write_report
from mlvl_fairseq.evaluation.report.runs import Run, read_runs
from mlvl_fairseq.evaluation.report.summary import MethodReport, Report, summarise

__all__ = [
    "Comparison",
    "MethodReport",
    "Report",
    "ReportOptions",
    "Run",
    "compare",
    "format_names",
    "published_methods",
    "published_names",
    "read_runs",
    "register_report_format",
    "summarise",
    "write_report",
]
