"""`mlvl-report`: the score matrix, average score and forgetting of a run, or of several side by side.

Reads what mlvl-cll left in its run folder (run.json, scores/), needs no model. Give a folder that holds several run
folders to compare methods. Prints the summary as a Markdown table on standard output.
"""

import argparse
import logging
from pathlib import Path
from typing import List, Optional

logger = logging.getLogger(__name__)

EPILOG = """\
examples:
  mlvl-report runs/teir                         # one run
  mlvl-report runs                              # runs/teir, runs/naive, ... in one report
  mlvl-report runs --format md csv --metric txt_r1 --output tables
"""


def build_parser() -> argparse.ArgumentParser:
    from mlvl_fairseq.evaluation.continual import FORGETTING
    from mlvl_fairseq.evaluation.report import format_names
    from mlvl_fairseq.evaluation.retrieval import METRICS

    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("run_dir", type=Path, help="folder of a run, or a folder that holds several")
    parser.add_argument("--output", type=Path, metavar="DIR", help="where the files go (default: RUN_DIR)")
    parser.add_argument("--split", help="split of the scores (default: the one the run evaluated on, else test)")
    parser.add_argument(
        "--metric", choices=METRICS, default="r_mean", help="shown in matrices and pictures (default: %(default)s)"
    )
    definitions = "; ".join(f"{name}: {definition.about}" for name, definition in FORGETTING.items())
    parser.add_argument(
        "--forgetting", choices=list(FORGETTING), default="reference", help=f"{definitions} (default: %(default)s)"
    )
    parser.add_argument("--format", nargs="+", choices=format_names(), default=[], help="files to write (default: all)")
    parser.add_argument("--ndigits", type=int, choices=range(7), default=1, help="decimals (default: %(default)s)")
    return parser


def main(argv: Optional[List[str]] = None) -> None:
    args = build_parser().parse_args(argv)
    from mlvl_fairseq.evaluation.report import ReportOptions, read_runs, summarise, write_report
    from mlvl_fairseq.evaluation.report.formats.markdown import summary_table

    report = summarise(read_runs(args.run_dir, args.split), args.forgetting)
    options = ReportOptions(args.output or args.run_dir, args.metric, args.ndigits, tuple(args.format))
    paths = write_report(report, options)
    print(summary_table(report, args.ndigits))
    for warning in report.warnings:
        logger.warning(warning)
    logger.info("wrote to %s: %s", options.folder, " ".join(path.name for path in paths))


def cli_main() -> None:
    from mlvl_fairseq.cli.common import run

    run(main)


if __name__ == "__main__":
    cli_main()
