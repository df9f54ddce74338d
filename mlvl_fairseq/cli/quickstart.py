"""`mlvl-quickstart`: the main job from end to end on a small picture world that the package draws itself.

Draws the pictures, trains an English teacher, learns languages one after another with each method, and writes the
report, whose summary is printed: AA is how good a model is on all languages at the end, F how much it has forgotten of
those before the last. At the end it says how to search the pictures with the best model. Every step is a command that
you can run by yourself; it is printed before it runs. What is done is skipped: run it again to continue.
"""

import argparse
import os
import shlex
from functools import partial
from pathlib import Path
from typing import Callable, List, Optional

from mlvl_fairseq.cli.common import positive, run

METHODS = "cll_clip,cll_clip_with_teir,cll_clip_with_teir_update,cll_clip_with_usage_share"
LANGUAGES = "en,de,fr,es,pt"  # of one script, so that they share pieces of words
BATCH_SIZE = 128
CAPTIONS_A_PICTURE = 2
# Small, so that words are cut into pieces that other languages use, too, as in real text. With 500, most words of this
# world are tokens of their own, and naive fine-tuning forgets less than half as much.
BPE_SIZE = 120
THREADS = "OMP_NUM_THREADS"
EPILOG = """\
examples:
  mlvl-quickstart                                              # all of it: docs/results.md says what comes out
  mlvl-quickstart --order en,de,fr,es,pt,cs                    # goes on: one language more
  mlvl-quickstart --methods cll_clip,er,oewc --output outputs/memory
  mlvl-quickstart --pictures 300 --teacher-epochs 2 --epochs 1 --output outputs/glance    # does it work here?
mlvl-picture-world --list-languages and mlvl-cll --list-methods say what there is.
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
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
    parser.add_argument("--epochs", type=positive, default=2, help="epochs a language (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of pictures and trainings (default: %(default)s)")
    return parser


def main(argv: Optional[List[str]] = None) -> None:
    args = build_parser().parse_args(argv)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault(THREADS, "1")  # of each process; read when torch is imported
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
        print(f"$ export {THREADS}={os.environ[THREADS]}")
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
        if not done.exists():
            self.step(
                f"fairseq-train {self.corpus} --user-dir {shlex.quote(str(USER_DIR))} --task image_text_retrieval "
                "--langs en --arch clip_tiny_vit --criterion clip_contrastive --optimizer row_adamw --lr 1e-3 "
                f"--lr-scheduler warmup_constant --warmup-updates 50 --clip-norm 1 --batch-size {BATCH_SIZE} "
                f"--required-batch-size-multiple 1 --max-epoch {args.teacher_epochs} --seed {args.seed} --cpu "
                f"--save-dir {shlex.quote(str(self.out / 'teacher'))} --no-epoch-checkpoints "
                f"--validate-interval {args.teacher_epochs} --best-checkpoint-metric r_mean "
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
            f"--init-from {self.teacher} --lr 5e-3 --max-epoch {args.epochs} --batch-size {BATCH_SIZE} "
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
        self.tell_how_to_search(found)

    def tell_how_to_search(self, report) -> None:
        """The commands that search the pictures with the model that is best on all languages in the end."""
        from mlvl_fairseq.errors import UserError
        from mlvl_fairseq.runs.folder import StepFolder
        from mlvl_fairseq.search.serving.server import require_server

        best = max(report.methods, key=lambda method: method.metrics[0]["r_mean"].AA[-1]).runs[0]
        last = best.protocol.steps(best.languages)[-1]
        checkpoint, index = (
            shlex.quote(str(path)) for path in (StepFolder(best.folder / last.name).best_checkpoint, self.out / "index")
        )
        print(f"\nSearch the pictures, here with {best.method}, in {', '.join(best.languages)}:")
        print(f"  mlvl-search index {self.world}/images {index} --checkpoint {checkpoint}")
        print(f"  mlvl-search query {index} 'zwei rote Sterne'")
        print(f"  mlvl-search serve {index}")
        try:
            require_server()
        except UserError as missing:
            print(f"  # {missing}")

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
