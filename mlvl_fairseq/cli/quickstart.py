"""`mlvl-quickstart`: the main job from end to end on a small picture world that the package draws itself.

Draws the pictures, trains an English teacher, learns the other languages one after another with each method, and
writes the report. Every step is a command that you can run by yourself; it is printed before it runs. What is done is
skipped: run it again to continue.
"""

import argparse
import os
import shlex
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Callable, Dict, List, Optional

from tqdm import tqdm

METHODS = "cll_clip,cll_clip_with_teir,cll_clip_with_teir_update"
LANGUAGES = "en,de,es,fr,ru,ar,zh"
POLL_SECONDS = 0.5


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="outputs/quickstart", help="default: %(default)s")
    parser.add_argument("--methods", default=METHODS, help="see mlvl-cll --list-methods (default: %(default)s)")
    parser.add_argument("--order", default=LANGUAGES, help="languages, English first (default: %(default)s)")
    parser.add_argument("--pictures", type=int, default=3000, help="training pictures (default: %(default)s)")
    parser.add_argument("--teacher-epochs", type=int, default=8, help="default: %(default)s")
    parser.add_argument("--epochs", type=int, default=3, help="epochs a language (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="default: %(default)s")
    return parser


def main(argv: Optional[List[str]] = None) -> None:
    args = build_parser().parse_args(argv)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from mlvl_fairseq.continual.run import import_training

    import_training()
    out = Path(args.output)
    draw_and_prepare(out, args)
    train_teacher(out, args)
    learn_languages(out, args)
    write_report(out)


def draw_and_prepare(out: Path, args) -> None:
    """Pictures and captions, then the corpus folder."""
    from mlvl_fairseq.cli import picture_world, prepare

    world, corpus = out / "world", out / "corpus"
    step(
        "mlvl-picture-world",
        picture_world.main,
        [world, "--seed", args.seed, "--train", args.pictures, "--languages", args.order],
        out,
    )
    if not (corpus / "corpus.json").exists():
        patterns = [f"--{split}={world}/{split}.{{lang}}.json" for split in ("valid", "test")]
        step(
            "mlvl-prepare",
            prepare.main,
            [
                corpus,
                "--languages",
                args.order,
                f"--train={world}/train.vision-en-{{lang}}.tsv",
                *patterns,
                "--image-root",
                world / "images",
                "--order",
                args.order,
            ],
            out,
        )


def train_teacher(out: Path, args) -> None:
    """An English dual encoder from scratch, and its features of the corpus."""
    from mlvl_fairseq.cli import prepare
    from mlvl_fairseq.continual.run import fairseq_train
    from mlvl_fairseq.continual.sequence import USER_DIR

    best, done = out / "teacher" / "checkpoint_best.pt", out / "teacher" / "done"
    if not done.exists():
        updates = args.teacher_epochs * (2 * args.pictures // 128)
        step(
            "fairseq-train",
            fairseq_train,
            [
                out / "corpus",
                "--user-dir",
                USER_DIR,
                "--task",
                "image_text_retrieval",
                "--langs",
                "en",
                "--arch",
                "clip_tiny_vit",
                "--criterion",
                "clip_contrastive",
                "--optimizer",
                "row_adamw",
                "--lr",
                "1e-3",
                "--lr-scheduler",
                "warmup_constant",
                "--warmup-updates",
                "50",
                "--clip-norm",
                "1",
                "--batch-size",
                "128",
                "--required-batch-size-multiple",
                "1",
                "--max-epoch",
                args.teacher_epochs,
                "--save-dir",
                best.parent,
                "--best-checkpoint-metric",
                "r_mean",
                "--maximize-best-checkpoint-metric",
                "--no-epoch-checkpoints",
                "--validate-interval",
                "4",
                "--save-interval",
                "4",
                "--seed",
                args.seed,
                "--log-format",
                "json",
                "--log-interval",
                "10",
                "--cpu",
            ],
            out,
            total=updates,
        )
        done.touch()
    step("mlvl-prepare", prepare.main, [out / "corpus", "--teacher", best], out)


def learn_languages(out: Path, args) -> None:
    """The whole sequence with every method, as many at a time as there are processors for."""
    methods, cores = args.methods.split(","), os.cpu_count() or 1
    jobs = max(1, min(len(methods), cores))
    environment = {**os.environ, "OMP_NUM_THREADS": str(cores // jobs)}
    waiting = [(method, _sequence_arguments(out, method, args)) for method in methods]
    for _, arguments in waiting:
        command("mlvl-cll", arguments)
    running: Dict[str, subprocess.Popen] = {}
    with tqdm(total=len(methods) * len(args.order.split(",")), desc="mlvl-cll", unit=" languages") as bar:
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    method, arguments = waiting.pop(0)
                    running[method] = _start(arguments, out / "logs" / f"mlvl-cll.{method}.log", environment)
                time.sleep(POLL_SECONDS)
                bar.update(len(list((out / "runs").glob("*/*/done.json"))) - bar.n)
                for method, process in list(running.items()):
                    if process.poll() is not None:
                        del running[method]
                        _check(process, out / "logs" / f"mlvl-cll.{method}.log")
        finally:
            for process in running.values():
                process.terminate()


def _sequence_arguments(out: Path, method: str, args) -> List[str]:
    arguments = [
        out / "corpus",
        out / "runs" / method,
        "--method",
        method,
        "--order",
        args.order,
        "--arch",
        "clip_tiny_vit",
        "--init-from",
        out / "teacher" / "checkpoint_best.pt",
        "--lr",
        "1e-3",
        "--max-epoch",
        args.epochs,
        "--seed",
        args.seed,
        "--cpu",
    ]
    return [str(argument) for argument in arguments]


def _start(arguments: List[str], log: Path, environment) -> subprocess.Popen:
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "mlvl_fairseq.cli.cll", *arguments], stdout=file, stderr=file, env=environment
        )


def _check(process: subprocess.Popen, log: Path) -> None:
    if process.returncode:
        from mlvl_fairseq.errors import UserError

        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise UserError(f"mlvl-cll stopped (exit status {process.returncode}): {lines[-1]}; log: {log}")


def write_report(out: Path) -> None:
    from mlvl_fairseq.cli import report

    step("mlvl-report", report.main, [out / "runs", "--output", out], out)
    sys.stdout.write((out / "report.md").read_text(encoding="utf-8"))


def command(name: str, arguments: List) -> None:
    """Print a command line as one would type it."""
    print("\n$ " + shlex.join([name, *map(str, arguments)]), flush=True)


def step(name: str, function: Callable, arguments: List, out: Path, total: Optional[int] = None) -> None:
    """Print a command and run it in a child process (see :mod:`mlvl_fairseq.continual.jobs`)."""
    from mlvl_fairseq.continual.jobs import run_job

    command(name, arguments)
    run_job(name, partial(function, [str(argument) for argument in arguments]), out / "logs" / f"{name}.log", total)


def cli_main() -> None:
    from mlvl_fairseq.cli.common import run

    run(main)


if __name__ == "__main__":
    cli_main()
