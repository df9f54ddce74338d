"""`mlvl-quickstart`: the main job from end to end on a small picture world that the package draws itself.

Draws the pictures, trains an English teacher, learns the other languages one after another with each method, and
writes the report, whose summary is printed. Every step is a command that you can run by yourself; it is printed before
it runs. What is done is skipped: run it again to continue.
"""

import argparse
import os
import shlex
from functools import partial
from pathlib import Path
from typing import Callable, List, Optional

from mlvl_fairseq.cli.common import positive, run

METHODS = "cll_clip,cll_clip_with_teir,cll_clip_with_teir_update,cll_clip_with_usage_share"
LANGUAGES = "en,de,es,fr,ru,ar,zh"
BATCH_SIZE = 128
CAPTIONS_A_PICTURE = 2
BPE_SIZE = 500  # a larger one would turn whole sentences of languages without spaces into single tokens


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="outputs/quickstart", help="folder of everything (default: %(default)s)")
    parser.add_argument(
        "--methods", default=METHODS, help="comma list, see mlvl-cll --list-methods (default: %(default)s)"
    )
    parser.add_argument(
        "--order", default=LANGUAGES, help="languages, English first; a longer list goes on (default: %(default)s)"
    )
    parser.add_argument("--pictures", type=positive, default=3000, help="training pictures (default: %(default)s)")
    parser.add_argument(
        "--teacher-epochs", type=positive, default=8, help="epochs of the teacher (default: %(default)s)"
    )
    parser.add_argument("--epochs", type=positive, default=3, help="epochs a language (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of pictures and trainings (default: %(default)s)")
    return parser


def main(argv: Optional[List[str]] = None) -> None:
    args = build_parser().parse_args(argv)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from mlvl_fairseq.continual.methods import method_protocol
    from mlvl_fairseq.continual.run import import_training
    from mlvl_fairseq.options import refuse_reference
    from mlvl_fairseq.process.locks import locked

    refuse_reference(os.path.abspath(args.output), "output folder")
    for method in args.methods.split(","):
        method_protocol(method)  # a wrong name is told now, not once a teacher is trained
    import_training()
    Path(args.output).mkdir(parents=True, exist_ok=True)
    with locked(args.output, wait=False):
        Quickstart(args).run()


class Quickstart:
    """The steps, each a command line, in an output folder.

    Args:
        args: see :func:`build_parser`.
    """

    def __init__(self, args: argparse.Namespace):
        self.args, self.out = args, Path(args.output)
        self.world, self.corpus, self.teacher, self.runs = (
            shlex.quote(str(self.out / name)) for name in ("world", "corpus", "teacher/checkpoint_best.pt", "runs")
        )

    def run(self) -> None:
        self.draw_and_prepare()
        self.train_teacher()
        self.learn_languages()
        self.write_report()

    def draw_and_prepare(self) -> None:
        """Pictures and captions, then the corpus folder."""
        from mlvl_fairseq.cli import picture_world, prepare

        args, world = self.args, self.world
        self.step(
            f"mlvl-picture-world {world} --seed {args.seed} --train {args.pictures} --languages {args.order}",
            picture_world.main,
        )
        self.step(
            f"mlvl-prepare {self.corpus} --languages {args.order} --order {args.order} --bpe-size {BPE_SIZE} "
            f"--image-root {world}/images --train {world}/'train.vision-en-{{lang}}.tsv' "
            f"--valid {world}/'valid.{{lang}}.json' --test {world}/'test.{{lang}}.json'",
            prepare.main,
        )

    def train_teacher(self) -> None:
        """An English dual encoder from scratch, and its features of the corpus."""
        from mlvl_fairseq.cli import prepare
        from mlvl_fairseq.continual.run import fairseq_train
        from mlvl_fairseq.continual.sequence import USER_DIR

        args, done = self.args, self.out / "teacher" / "done"
        interval = 1 if args.teacher_epochs % 2 else 2  # the last epoch is among those that are validated
        if not done.exists():
            self.step(
                f"fairseq-train {self.corpus} --user-dir {shlex.quote(str(USER_DIR))} --task image_text_retrieval "
                "--langs en --arch clip_tiny_vit --criterion clip_contrastive --optimizer row_adamw --lr 1e-3 "
                f"--lr-scheduler warmup_constant --warmup-updates 50 --clip-norm 1 --batch-size {BATCH_SIZE} "
                f"--required-batch-size-multiple 1 --max-epoch {args.teacher_epochs} --seed {args.seed} --cpu "
                f"--save-dir {shlex.quote(str(self.out / 'teacher'))} --no-epoch-checkpoints "
                f"--validate-interval {interval} --save-interval {interval} --best-checkpoint-metric r_mean "
                "--maximize-best-checkpoint-metric --log-format json --log-interval 10",
                fairseq_train,
                total=args.teacher_epochs * (CAPTIONS_A_PICTURE * args.pictures // BATCH_SIZE),
            )
            done.touch()
        self.step(f"mlvl-prepare {self.corpus} --teacher {self.teacher}", prepare.main)

    def learn_languages(self) -> None:
        """The whole sequence with every method, as many at a time as there are processors for."""
        from tqdm import tqdm

        from mlvl_fairseq.process.jobs import run_jobs
        from mlvl_fairseq.process.threads import cores
        from mlvl_fairseq.runs.folder import count_finished

        methods = self.args.methods.split(",")
        for method in methods:
            print(f"\n$ {self._sequence(method)}", flush=True)
        jobs = [(method, partial(self._learn, method), self._log(method)) for method in methods]
        languages = len(methods) * len(self.args.order.split(","))
        with tqdm(total=languages, desc="mlvl-cll", unit=" languages") as bar:
            for _ in run_jobs(jobs, min(len(methods), cores())):
                bar.update(count_finished(self.out / "runs") - bar.n)

    def _sequence(self, method: str) -> str:
        args = self.args
        return (
            f"mlvl-cll {self.corpus} {self.runs}/{method} --method {method} --order {args.order} --arch clip_tiny_vit "
            f"--init-from {self.teacher} --lr 3e-3 --max-epoch {args.epochs} --batch-size {BATCH_SIZE} "
            f"--seed {args.seed} --cpu"
        )

    def _learn(self, method: str) -> None:
        from mlvl_fairseq.cli import cll

        cll.main(shlex.split(self._sequence(method))[1:])

    def write_report(self) -> None:
        """The report of all methods; its summary is printed."""
        from mlvl_fairseq.cli import report
        from mlvl_fairseq.evaluation.report import read_runs, summarise

        self.step(f"mlvl-report {self.runs} --output {shlex.quote(str(self.out))}", report.main)
        found = summarise(read_runs([self.out / "runs"]))
        warnings = "".join(f"Warning: {warning}\n" for warning in found.warnings)
        print(f"\n{report.terminal_text(found)}\n\n{warnings}report:  {self.out / 'report.md'}")
        print(f"picture: {self.out / 'report.png'}")

    def _log(self, name: str) -> Path:
        path = self.out / "logs" / f"{name}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def step(self, line: str, function: Callable, total: Optional[int] = None) -> None:
        """Print a command line and run it in a child process (see :mod:`mlvl_fairseq.process.jobs`)."""
        from mlvl_fairseq.process.jobs import run_job

        print(f"\n$ {line}", flush=True)
        name, *arguments = shlex.split(line)
        run_job(name, partial(function, arguments), self._log(name), total)


def cli_main() -> None:
    run(main)


if __name__ == "__main__":
    cli_main()
