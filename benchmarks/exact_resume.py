"""Is a run that was killed at any moment and started again the run that nothing had disturbed?

Draws a picture world, trains a teacher, and learns three languages with experience replay and TEIR. Then the same run,
whose earlier languages are copied, is killed (`kill -9` of all its processes) in training, while a checkpoint is
written, in validation, while a language is finished, in evaluation, and between languages, and started again. At the
end every tensor of every checkpoint (weights, replay memory, optimizer) and every score is compared, byte for byte.
Control: a run whose memory is lost between kill and restart must be found to differ. Exit status 0: all is as it
should be.

    python benchmarks/exact_resume.py --kills 20        # about four minutes
"""

import argparse
import json
import logging
import multiprocessing
import os
import random
import shlex
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional, Sequence

from tqdm import tqdm

from mlvl_fairseq.checkpoints.comparison import differing
from mlvl_fairseq.continual.sequence import USER_DIR
from mlvl_fairseq.data.corpus import Corpus

LANGUAGES = ("en", "de", "ru")
MODEL = (
    "--arch clip_tiny_vit --embed-dim 32 --text-width 32 --text-layers 1 --text-heads 2 --image-size 32 "
    "--patch-size 16 --vision-width 32 --vision-layers 1 --vision-heads 2"
)
TRAINING = "--lr 1e-3 --batch-size 16 --num-workers 0 --cpu --seed 1"
SEQUENCE = "--max-epoch 2 --save-interval-updates 5 --log-interval 1 --memory-size 100"
PATIENCE = 600.0  # seconds for a moment to come
EXACT = ("**/*.pt", "*/done.json", "scores/*/*")
COSTS = ("checkpoint_bytes",)  # fairseq notes every start of a training in its checkpoints
GATHERED = ("next_items", "next_labels", "seen", "draws")


class Command:
    """``mlvl-cll`` in processes of its own, forked with everything imported.

    Args:
        arguments: of the command. log: what it prints goes there.
    """

    def __init__(self, arguments: List[str], log: Path):
        self._process = multiprocessing.get_context("fork").Process(target=_run, args=(arguments, log))
        self._process.start()

    def wait(self) -> int:
        """Its exit status."""
        self._process.join()
        return self._process.exitcode

    def kill_when(self, reached: Callable[[], bool], sleep: float = 0.001) -> bool:
        """``kill -9`` of all its processes at a moment. They are halted first, and go on if the moment has passed.

        Returns:
            False: the command ended before.
        """
        deadline = time.monotonic() + PATIENCE
        while self._process.is_alive() and time.monotonic() < deadline:
            if reached():
                self._signal(signal.SIGSTOP)
                time.sleep(0.02)
                if reached():
                    self._signal(signal.SIGKILL)
                    self._process.join()
                    return True
                self._signal(signal.SIGCONT)
            time.sleep(sleep)
        self._signal(signal.SIGKILL)
        self._process.join()
        return False

    def _signal(self, number: int) -> None:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:  # ended meanwhile
            pass


def _run(arguments: List[str], log: Path) -> None:
    os.setsid()
    with open(log, "ab") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    sys.stdout = sys.stderr = open(2, "w", buffering=1, closefd=False)  # a job points 2 at a log of its own
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s", force=True)
    from mlvl_fairseq.cli.cll import cli_main

    sys.argv = ["mlvl-cll", *arguments]
    cli_main()


@dataclass
class Moment:
    """A state of a run's folder at which to kill it.

    Attributes:
        kind: in training, ... step: position of the language. update: for training.
    """

    kind: str
    step: int
    update: int = 0

    def __str__(self):
        return f"{LANGUAGES[self.step]}{f', update {self.update}' if self.update else ''}"

    def reached(self, run: Path) -> bool:
        return KINDS[self.kind](self, run, run / f"{self.step:02d}-{LANGUAGES[self.step]}")


KINDS: Dict[str, Callable[[Moment, Path, Path], bool]] = {}


def kind(name: str):
    def register(reached):
        KINDS[name] = reached
        return reached

    return register


@kind("in training")
def in_training(moment: Moment, run: Path, folder: Path) -> bool:
    return moment.update <= updates_in(folder / "train.log") and not (folder / "done.json").exists()


@kind("while saving")
def while_saving(moment: Moment, run: Path, folder: Path) -> bool:
    """A checkpoint is half written; the `update` says from when on."""
    return any(folder.glob("checkpoint*.tmp")) and moment.update <= updates_in(folder / "train.log")


@kind("in validation")
def in_validation(moment: Moment, run: Path, folder: Path) -> bool:
    """It has begun, and its scores are not there; the `update` says from when on."""
    log = folder / "train.log"
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    return text.rfind("begin validation") > text.rfind('"valid_loss"') and moment.update <= updates_in(log)


@kind("while finishing")
def while_finishing(moment: Moment, run: Path, folder: Path) -> bool:
    """The last checkpoint is there, and what is kept of the best one is half written."""
    return any(folder.glob(".checkpoint_best.pt.*.tmp"))


@kind("in evaluation")
def in_evaluation(moment: Moment, run: Path, folder: Path) -> bool:
    """Some scores are written, others not; after the first language: none is."""
    scores = len(list((run / "scores" / folder.name).glob("*.json")))
    return (folder / "eval.log").exists() and min(moment.step, 1) <= scores <= moment.step


@kind("between languages")
def between_languages(moment: Moment, run: Path, folder: Path) -> bool:
    """Everything of a language is there, nothing of the next one's training."""
    scores = len(list((run / "scores" / folder.name).glob("*.json")))
    following = run / f"{moment.step + 1:02d}-{LANGUAGES[moment.step + 1]}"
    return scores == moment.step + 1 and not updates_in(following / "train.log")


WHILE_TRAINING = ("in training", "while saving", "in validation")


def updates_in(log: Path) -> int:
    """Number of updates that a log has reached."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    counts = [line.partition('"num_updates": "')[2].partition('"')[0] for line in lines]
    return max((int(count) for count in counts if count), default=0)


def draw_moments(number: int, updates: int, seed: int) -> List[Moment]:
    """Pseudo-random moments: in training every other time, the other kinds in turn. Each kind goes through the
    languages from one that is drawn; updates are drawn."""
    rng = random.Random(seed)
    others = [name for name in KINDS if name != "in training"]
    steps = {name: rng.randrange(len(LANGUAGES)) for name in KINDS}
    moments = []
    for i in range(number):
        name = "in training" if i % 2 == 0 else others[i // 2 % len(others)]
        steps[name] += 1
        step = steps[name] % (len(LANGUAGES) - (name == "between languages"))
        moments.append(Moment(name, step, rng.randrange(1, updates - 5) if name in WHILE_TRAINING else 0))
    return moments


class Harness:
    """Runs of one sequence, disturbed and not.

    Args:
        folder: for all runs. corpus, teacher: made by `prepare`, or others with `LANGUAGES`.
        method: row of ``methods.yaml``.
    """

    def __init__(self, folder: Path, corpus: Path, teacher: Path, method: str):
        self.folder, self.whole, self.killed = folder, folder / "undisturbed", folder / "killed"
        order = ["--method", method, "--order", ",".join(LANGUAGES), "--init-from", str(teacher)]
        self.options = [*order, *shlex.split(f"{MODEL} {TRAINING} {SEQUENCE}")]
        self.corpus = corpus
        captions = Corpus(corpus).manifest["splits"]["train"]["captions"]
        self.updates = 2 * (min(captions.values()) // 16)  # a language

    def run_undisturbed(self) -> float:
        """Seconds. Raises RuntimeError: it failed."""
        began = time.monotonic()
        status = self._start(self.whole).wait()
        if status:
            raise RuntimeError(f"the undisturbed run ended with status {status}: see {self.whole}.log")
        return time.monotonic() - began

    def _start(self, run: Path) -> Command:
        return Command([str(self.corpus), str(run), *self.options], run.with_suffix(".log"))

    def kill_and_restart(self, moment: Moment, between: Optional[Callable[[Path], None]] = None) -> "Outcome":
        """Kill a run at a moment and start it again. `between` may change the folder of the moment's language."""
        return self.restart(moment, between) if self.kill(moment) else Outcome(moment, None, [])

    def kill(self, moment: Moment) -> bool:
        """Kill a run at a moment; False: it ended before. Its earlier languages are those of the undisturbed run."""
        shutil.rmtree(self.killed, ignore_errors=True)
        shutil.copytree(self.whole, self.killed, ignore=partial(self._from, moment.step))
        return self._start(self.killed).kill_when(lambda: moment.reached(self.killed))

    def _from(self, step: int, folder: str, names: List[str]) -> List[str]:
        """Folders of the languages from one on."""
        return [name for name in names if name in {f"{i:02d}-{LANGUAGES[i]}" for i in range(step, len(LANGUAGES))}]

    def restart(self, moment: Moment, between: Optional[Callable[[Path], None]] = None) -> "Outcome":
        """Start the killed run again, see `kill_and_restart`."""
        if between is not None:
            between(self.killed / f"{moment.step:02d}-{LANGUAGES[moment.step]}")
        status = self._start(self.killed).wait()
        return Outcome(moment, status, self.differences(self.killed) if status == 0 else [])

    def differences(self, run: Path) -> List[str]:
        """Files, and places in checkpoints, that are not those of the undisturbed run."""
        mine, whole = (set(exact_files(folder)) for folder in (run, self.whole))
        places = [f"{name} is in one of them" for name in sorted(mine ^ whole)]
        for name in sorted(mine & whole):
            if name.endswith(".pt"):
                places += [f"{name}: {place}" for place in differing(run / name, self.whole / name)]
            elif results_in(run / name) != results_in(self.whole / name):
                places.append(name)
        return places


def exact_files(run: Path) -> Iterator[str]:
    """What of a run's folder must be the same."""
    return (str(path.relative_to(run)) for pattern in EXACT for path in run.glob(pattern))


def results_in(path: Path):
    """A file's bytes; of a JSON file what it says, but for costs (JSON holds every digit of a number)."""
    if path.suffix != ".json":
        return path.read_bytes()
    return {key: value for key, value in json.loads(path.read_text(encoding="utf-8")).items() if key not in COSTS}


@dataclass
class Outcome:
    """How a killed run ended: exit status of its restart (None: the moment did not come), and what is different."""

    moment: Moment
    status: Optional[int]
    differences: List[str]

    @property
    def equal(self) -> bool:
        return self.status == 0 and not self.differences

    def row(self, name: str) -> str:
        status = "not killed" if self.status is None else self.status
        return f"| {name} | {self.moment.kind} | {self.moment} | {status} | {'yes' if self.equal else 'NO'} |"


def forget(folder: Path, names: Sequence[str] = ("",)) -> None:
    """Overwrite what the method remembers by zeros, in the last checkpoint.

    Args:
        names: ends of the names of the buffers in question.

    Raises:
        ValueError: the checkpoint remembers nothing.
    """
    import torch

    from mlvl_fairseq.checkpoints.safe_loading import load_checkpoint_file

    path = folder / "checkpoint_last.pt"
    state = load_checkpoint_file(path)
    memory = [
        tensor
        for name, tensor in state["model"].items()
        if name.startswith("continual.") and name.endswith(tuple(names)) and tensor.any()
    ]
    if not memory:
        raise ValueError(f"{path} holds no memory: choose a method that has one")
    for tensor in memory:
        tensor.zero_()
    torch.save(state, path)


def prepare(folder: Path) -> None:
    """A picture world, its corpus, an English teacher and its features, in jobs of their own."""
    from mlvl_fairseq.cli import picture_world
    from mlvl_fairseq.cli import prepare as prepare_command
    from mlvl_fairseq.continual.run import fairseq_train
    from mlvl_fairseq.process.jobs import run_job

    world, corpus, teacher = folder / "world", folder / "corpus", folder / "teacher"
    languages = ",".join(LANGUAGES)
    files = [
        f"--{split}={world}/{name}"
        for split, name in (
            ("train", "train.vision-en-{lang}.tsv"),
            ("valid", "valid.{lang}.json"),
            ("test", "test.{lang}.json"),
        )
    ]
    steps = (
        (picture_world.main, f"{world} --train 120 --valid 20 --test 20 --languages {languages}"),
        (
            prepare_command.main,
            f"{corpus} --languages {languages} --order {languages} --image-root {world}/images {shlex.join(files)}",
        ),
        (
            fairseq_train,
            f"{corpus} --user-dir {USER_DIR} --task image_text_retrieval --criterion clip_contrastive {MODEL} "
            f"{TRAINING} "
            "--optimizer row_adamw --lr-scheduler warmup_constant --warmup-updates 2 --max-epoch 2 "
            "--no-epoch-checkpoints --best-checkpoint-metric r_mean --maximize-best-checkpoint-metric "
            f"--save-dir {teacher}",
        ),
        (prepare_command.main, f"{corpus} --teacher {teacher}/checkpoint_best.pt"),
    )
    for function, line in steps:
        run_job("prepare", partial(function, shlex.split(line)), folder / "prepare.log")


def main(argv: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="number of kills (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments (default: %(default)s)")
    parser.add_argument(
        "--method", default="er_with_teir", help="row of mlvl-cll --list-methods, with a memory (default: %(default)s)"
    )
    parser.add_argument("--folder", type=Path, help="work there and keep it (default: a temporary folder)")
    args = parser.parse_args(argv)
    from mlvl_fairseq.continual.run import import_training

    import_training()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (args.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        prepare(folder)
        harness = Harness(folder, folder / "corpus", folder / "teacher" / "checkpoint_best.pt", args.method)
        return report(harness, args.kills, args.seed)


CONTROLS: Dict[str, Callable[[Path], None]] = {
    "memory lost": forget,  # the optimizer, whose rows follow the memory, refuses to go on
    "what is being gathered lost": partial(forget, names=GATHERED),
}


def control_moment(harness: Harness) -> Moment:
    """In the middle of the last language, when there is a memory of all earlier ones."""
    return Moment("in training", len(LANGUAGES) - 1, harness.updates // 2)


def report(harness: Harness, kills: int, seed: int) -> int:
    """Print the table; 0 if all is as it should be."""
    seconds = harness.run_undisturbed()
    began = time.monotonic()
    print("| kill | when | language | restart exit | equal |\n|---:|---|---|---:|---|", flush=True)
    outcomes = []
    for number, moment in enumerate(tqdm(draw_moments(kills, harness.updates, seed), unit=" kills"), 1):
        outcomes.append(harness.kill_and_restart(moment))
        tqdm.write(outcomes[-1].row(str(number)))
    controls = [harness.kill_and_restart(control_moment(harness), lose) for lose in CONTROLS.values()]
    for name, control in zip(CONTROLS, controls):
        print(control.row(f"control: {name}"))
    equal = sum(outcome.equal for outcome in outcomes)
    print(f"\n{equal} of {kills} equal. Undisturbed: {seconds:.0f} s; all others: {time.monotonic() - began:.0f} s.")
    for outcome in (*outcomes, *controls):
        if outcome.differences:
            count, first = len(outcome.differences), ", ".join(outcome.differences[:3])
            print(f"- {outcome.moment.kind}, {outcome.moment}: differs at {count} places ({first}, ...)")
    return 0 if equal == kills and not any(control.equal for control in controls) else 1


if __name__ == "__main__":
    sys.exit(main())
