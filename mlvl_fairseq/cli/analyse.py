"""`mlvl-analyse`: what happened inside the models of mlvl-cll runs, from their checkpoints and their corpus.

attention    how far attention on earlier languages' captions drifts until the end of the sequence (KL divergence)
convergence  loss of the final model under weight noise, and the trace of its Fisher information
segmentation how many captions of earlier languages the vocabulary, as it grows, cuts differently

Prints a Markdown table of all runs given; writes it with all numbers and a picture to the output folder. Finished
parts are kept in RUN/analysis and not repeated.
"""

import argparse
import math
from pathlib import Path
from typing import Dict, List, Optional

from mlvl_fairseq.cli.common import not_negative, positive, run, tell_written

EPILOG = """\
examples:
  mlvl-analyse attention runs/naive runs/teir --output analysis
  mlvl-analyse attention runs/teir --max-captions 1000
  mlvl-analyse convergence runs/naive runs/teir --noise 0 0.001 0.003 --noise-draws 3 --output analysis
  mlvl-analyse convergence runs/teir --max-captions 500 --no-fisher            # quick
  mlvl-analyse segmentation runs/teir --split test
"""


def deviation(text: str) -> float:
    """A standard deviation, for argparse."""
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is no standard deviation: 0 or more, and finite")
    return value


def build_parser() -> argparse.ArgumentParser:
    from mlvl_fairseq.cli.common import add_device_option, add_frozen_options

    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="analysis", required=True, metavar="ANALYSIS")
    attention = commands.add_parser("attention", help="attention KL of every language but the last")
    convergence = commands.add_parser("convergence", help="loss under weight noise, Fisher trace")
    segmentation = commands.add_parser("segmentation", help="captions of earlier languages that are cut differently")
    functions = {
        attention: analyse_attention,
        convergence: analyse_convergence,
        segmentation: analyse_segmentation,
    }
    for command, function in functions.items():
        command.set_defaults(function=function)
        command.add_argument("run_dir", nargs="+", type=Path, help="folders of finished mlvl-cll runs")
        command.add_argument(
            "--output", type=Path, metavar="DIR", help="folder of table and picture (default: RUN/analysis of one run)"
        )
        command.add_argument("--max-captions", type=positive, metavar="N", help="captions a language (default: all)")
        command.add_argument(
            "--seed", type=not_negative, default=1, help="of everything that is drawn (default: %(default)s)"
        )
        if command is not segmentation:  # which reads no model
            add_device_option(command)
            add_frozen_options(command, whose="the checkpoints")
    convergence.add_argument(
        "--noise", type=deviation, nargs="+", metavar="STD", default=[0, 0.001, 0.002, 0.005, 0.01],
        help="standard deviations of the noise on every weight of the text tower (default: %(default)s)",
    )  # fmt: skip
    convergence.add_argument(
        "--noise-draws", type=positive, default=1, help="noises that are averaged (default: %(default)s)"
    )
    segmentation.add_argument("--split", default="train", help="whose captions (default: %(default)s)")
    convergence.add_argument("--no-fisher", action="store_true", help="leave the Fisher trace out")
    convergence.add_argument("--batch-size", type=positive, default=128, help="captions a batch (default: %(default)s)")
    return parser


def main(argv: Optional[List[str]] = None) -> None:
    args = build_parser().parse_args(argv)
    from mlvl_fairseq.errors import UserError
    from mlvl_fairseq.files import write_json, write_text
    from mlvl_fairseq.process.locks import writing
    from mlvl_fairseq.runs.folder import RunFolder

    if args.output is None and len(args.run_dir) > 1:
        raise UserError("say where to write the comparison of several runs: --output DIR")
    runs = [RunFolder.read(folder) for folder in args.run_dir]
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in args.run_dir]
    output = args.output or runs[0].folder / "analysis"
    output.mkdir(parents=True, exist_ok=True)
    picture, numbers, text = (output / f"{args.analysis}.{kind}" for kind in ("png", "json", "md"))
    with writing(picture, numbers, text):
        found, table = args.function(dict(zip(names, runs)), picture, args)
        write_json(numbers, found)
        write_text(text, f"{table}\n")
    print(table)
    tell_written(text, numbers, picture)


def analyse_attention(runs: Dict[str, object], picture: Path, args: argparse.Namespace):
    """Attention KL of every run, and its table; draws it."""
    from mlvl_fairseq.cli.common import frozen_from
    from mlvl_fairseq.continual.analyses.attention_drift import attention_drift
    from mlvl_fairseq.evaluation.report.drawing import draw_lines
    from mlvl_fairseq.evaluation.report.tables import value_table

    found = {
        name: attention_drift(run, args.max_captions, args.seed, args.device, **frozen_from(args))
        for name, run in runs.items()
    }
    languages = list(dict.fromkeys(lang for drift in found.values() for lang in drift))
    kl = {name: [drift[lang]["kl"] if lang in drift else None for lang in languages] for name, drift in found.items()}
    curves = {
        name: (range(len(values)), [float("nan") if v is None else v for v in values]) for name, values in kl.items()
    }
    draw_lines(picture, curves, "Drift of attention until the final model", "language", "attention KL", languages)
    means = {
        name: [*values, sum(d["kl"] for d in found[name].values()) / len(found[name])] for name, values in kl.items()
    }
    return found, value_table("attention KL", [*languages, "mean"], means)


def analyse_convergence(runs: Dict[str, object], picture: Path, args: argparse.Namespace):
    """Loss under noise and Fisher trace of every run, and their table; draws the loss."""
    from mlvl_fairseq.cli.common import frozen_from
    from mlvl_fairseq.continual.analyses.convergence import analyse_convergence as analyse
    from mlvl_fairseq.evaluation.report.drawing import draw_lines
    from mlvl_fairseq.evaluation.report.tables import value_table

    noise = sorted(set(args.noise))
    found = {
        name: analyse(
            run,
            noise,
            args.noise_draws,
            not args.no_fisher,
            args.max_captions,
            args.batch_size,
            args.seed,
            args.device,
            **frozen_from(args),
        )
        for name, run in runs.items()
    }
    losses = {name: [row["loss"] for row in result["noise"]] for name, result in found.items()}
    curves = {name: (noise, values) for name, values in losses.items()}
    draw_lines(picture, curves, "Flatness of the final model", "standard deviation of weight noise", "loss")
    rows = {name: [*values, found[name].get("fisher_trace")] for name, values in losses.items()}
    return found, value_table("loss", [*(f"noise {std:g}" for std in noise), "Fisher trace"], rows)


def analyse_segmentation(runs: Dict[str, object], picture: Path, args: argparse.Namespace):
    """What of every earlier language is cut differently at every step, and its table; draws the captions."""
    from mlvl_fairseq.continual.analyses.segmentation_drift import segmentation_drift
    from mlvl_fairseq.evaluation.report.drawing import draw_lines
    from mlvl_fairseq.evaluation.report.tables import value_table

    found = {name: segmentation_drift(run, args.split, args.max_captions, args.seed) for name, run in runs.items()}
    languages = list(dict.fromkeys(lang for run in runs.values() for lang in run.languages))
    curves, tables = {}, []
    for name, drift in found.items():
        rates = {lang: {later: _percent(its, "captions") for later, its in own.items()} for lang, own in drift.items()}
        for lang, own in rates.items():
            title = lang if len(found) == 1 else f"{name} {lang}"
            curves[title] = ([languages.index(later) for later in own], list(own.values()))
        steps = runs[name].languages[1:]
        rows = {
            lang: [
                *(own.get(later) for later in steps),
                *(_percent(drift[lang][steps[-1]], kind) for kind in ("words", "tokens")),
                *(drift[lang][steps[-1]][key] / drift[lang][steps[-1]]["captions"] for key in ("tokens", "tokens_now")),
            ]
            for lang, own in rates.items()
        }
        head = [*(f"captions after {later}" for later in steps), "words", "tokens", "tokens then", "now"]
        tables.append(value_table(f"{name}: cut differently, %", head, rows))
    draw_lines(picture, curves, "Captions cut differently than when they were learned", "after", "%", languages)
    note = "Words and tokens: at the end, in %; tokens then and now: of a caption, when it was learned and at the end."
    return found, "\n\n".join([*tables, note])


def _percent(counts: Dict[str, int], kind: str) -> float:
    return 100 * counts[f"changed_{kind}"] / max(1, counts[kind])


def cli_main() -> None:
    run(main)


if __name__ == "__main__":
    cli_main()
