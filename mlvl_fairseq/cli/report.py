"""`mlvl-report`: average scores, forgetting and costs of one model or many, as tables and pictures.

Reads what mlvl-cll left in its run folders (run.json, scores/, costs) and what mlvl-evaluate --output-dir wrote, needs
no model. Give such folders, or folders that hold them at any depth; every method or model is one row. Runs that differ
only in their seed are one method, and so are models in folders that differ only in a part seed1, seed2, ...: mean and
standard deviation over seeds. Prints the summary as a Markdown table on standard output.

AA: average score over all languages, of a run after the last one was learned. F: forgetting of the languages learned
before, Fen: that of English, where it is learned. Joint training, single-language models
and the scores of mlvl-evaluate have AA only.
"""

import argparse
import logging
from pathlib import Path
from typing import List, Optional

logger = logging.getLogger(__name__)

EPILOG = """\
examples:
  mlvl-report runs/teir                         # one run
  mlvl-report outputs/flickr8k                  # outputs/flickr8k/seed1/teir, .../seed2/teir, ...: mean over seeds
  mlvl-report runs/teir runs/naive --output both --format md csv --metric txt_r1
  mlvl-report outputs/flickr8k --compare cll_clip_with_teir cll_clip      # is the difference more than chance?
  mlvl-report outputs/mscoco36 --split xm3600 --published xm3600          # the paper's figures beside ours
  mlvl-report outputs/multi30k/trikd            # of mlvl-evaluate: .../full/seed1/scores, .../untrained/seed1/scores
  mlvl-report runs/teir scores/clip --compare teir clip                   # a run's last model against any model

files, in --output:
  report.md report.json     everything
  summary.csv               method x metric: AA, F, Fen, mean and deviation
  scores.csv                scores of mlvl-evaluate: model x language x metric, mean and deviation
  NAME_CL_retrieval*.csv    runs in the layout of the published result tables, NAME the data set
  report.png                curves with matrices (many methods: with the final scores); curves.png alone
  matrix_METHOD.png         score on each language after learning each language
  final.png                 several methods: final score on each language
  costs.csv costs.png       time and memory, if the runs recorded them
  comparisons.csv           with --compare
"""


def build_parser() -> argparse.ArgumentParser:
    from mlvl_fairseq.evaluation.metrics.continual import FORGETTING
    from mlvl_fairseq.evaluation.report import format_names, published_names

    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "run_dirs",
        type=Path,
        nargs="+",
        metavar="FOLDER",
        help="a run of mlvl-cll, scores of mlvl-evaluate --output-dir, or a folder that holds some at any depth",
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="where the files go (default: FOLDER; of several: report)"
    )
    parser.add_argument("--split", help="split of the scores (default: the one the run evaluated on, else test)")
    parser.add_argument(
        "--metric", help="shown in matrices, final scores and pictures (default: r_mean, or the scores' first one)"
    )
    definitions = "; ".join(f"{name}: {definition.about}" for name, definition in FORGETTING.items())
    parser.add_argument(
        "--forgetting", choices=list(FORGETTING), default="reference", help=f"{definitions} (default: %(default)s)"
    )
    parser.add_argument(
        "--compare",
        nargs=2,
        action="append",
        default=[],
        metavar=("A", "B"),
        help="paired bootstrap over test images: difference of AA (A minus B) on the languages of both, its 95%% "
        "interval and p-value; methods or models as named in the table, or their folders; may be given several times",
    )
    parser.add_argument(
        "--resamples", type=int, default=1000, metavar="N", help="draws of the bootstrap (default: %(default)s)"
    )
    parser.add_argument(
        "--draw-seeds",
        action="store_true",
        help="draw seeds of training, too: intervals are about other trainings as well as other test images",
    )
    parser.add_argument(
        "--published",
        choices=published_names(),
        help="beside each method show the figures that Yang et al. 2024 published for it on this data set, marked as "
        "published (CLIP ViT-B/16, 36 languages)",
    )
    parser.add_argument("--format", nargs="+", choices=format_names(), default=[], help="files to write (default: all)")
    parser.add_argument("--ndigits", type=int, choices=range(7), default=1, help="decimals (default: %(default)s)")
    return parser


def main(argv: Optional[List[str]] = None) -> None:
    args = build_parser().parse_args(argv)
    from mlvl_fairseq.evaluation.report import (
        ReportOptions,
        compare,
        published_methods,
        read_runs,
        summarise,
        write_report,
    )
    from mlvl_fairseq.process.locks import locked

    report = summarise(read_runs(args.run_dirs, args.split), args.forgetting)
    for first, second in args.compare:
        pair = report.method(first), report.method(second)
        report.comparisons.append(compare(*pair, args.resamples, args.draw_seeds))
    if args.published:
        report.published = published_methods(args.published)
    folder = args.output or (args.run_dirs[0] if len(args.run_dirs) == 1 else Path("report"))
    options = ReportOptions(folder, report.main_metric(args.metric), args.ndigits, tuple(args.format))
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, wait=False, name="report"):  # mlvl-cll may be at work in the folder itself
        paths = write_report(report, options)
    print(terminal_text(report, args.ndigits, options.metric))
    for warning in report.warnings:
        logger.warning(warning)
    logger.info("wrote to %s: %s", options.folder, " ".join(path.name for path in paths))


def terminal_text(report, ndigits: int = 1, metric: str = "r_mean") -> str:
    """What is shown of a report where it is written: its summary, the scores of mlvl-evaluate, comparisons."""
    from mlvl_fairseq.evaluation.report.formats.markdown import comparison_section, final_section, summary_table

    parts = [summary_table(report, ndigits)]
    if report.evaluations:
        parts.append(final_section(report, metric, ndigits))
    return "\n\n".join([*parts, *map(comparison_section, report.comparisons)])


def cli_main() -> None:
    from mlvl_fairseq.cli.common import run

    run(main)


if __name__ == "__main__":
    cli_main()
