"""Is what a killed command leaves, once the same command is run again, what an undisturbed one leaves, byte by byte?

Every command that writes runs undisturbed; then it is killed (SIGKILL of all its processes; SIGTERM; Ctrl-C) at moments
drawn by a seed: just before the n-th time that it opens, renames or removes a file of its output, or some time after
that, in the middle of its work. It is run again, and the folders are compared. After that two processes run in one
folder at the same time: one finishes, the other one waits or is refused in one line with exit status 2. Control: a
result of each command, changed in one bit, is found to differ.

Compared are all files: of checkpoints every tensor and how far training has come, of others all bytes. Left out are
logs, lock files, what a run cost (seconds and memory, in costs.* and in reports; report.json has the scores), times
and options in checkpoints, and `checkpoint_bytes` in done.json (fairseq notes every start in a checkpoint). Exit
status 0: everything is equal.

    python benchmarks/kills.py                       # about eight minutes; again: goes on where it was interrupted
    python benchmarks/kills.py --job 'cll_*' --kills 20 --seed 3
"""

import argparse
import importlib
import json
import multiprocessing
import os
import random
import shlex
import shutil
import signal
import sys
import time
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatch
from functools import partialmethod
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent))

from small_world import ORDER, SmallWorld, import_everything  # noqa: E402

from mlvl_fairseq.checkpoints.comparison import differing  # noqa: E402
from mlvl_fairseq.checkpoints.safe_loading import load_checkpoint_file  # noqa: E402

PATIENCE = 180.0  # seconds for a command to end
SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT}
ENDED_BY = {"SIGKILL": (-9,), "SIGTERM": (143, -15), "SIGINT": (130, -2)}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
LEFT_OUT = ("*.log", ".lock", "costs.*", "report.md")
TEMPORARY = ("*.tmp", "*.tmp.*")
COSTS = ("checkpoint_bytes", "costs")

Prepare = Callable[[SmallWorld, Path], str]  # world, output folder -> command line


@dataclass(frozen=True)
class Job:
    """A command that writes.

    Attributes:
        name: of the job. prepare: puts what the command goes on from into the output folder; gives its line.
        share: how many kills it gets, relative to the others.
        change: what is different in its process, e.g. so that it saves more often.
    """

    name: str
    prepare: Prepare
    share: float = 1.0
    change: Optional[Callable[[], None]] = None


JOBS: Dict[str, Job] = {}


def job(share: float = 1.0, change: Optional[Callable[[], None]] = None) -> Callable[[Prepare], Prepare]:
    """Register a job."""

    def register(prepare: Prepare) -> Prepare:
        JOBS[prepare.__name__] = Job(prepare.__name__, prepare, share, change)
        return prepare

    return register


def flush_every_batch() -> None:
    """Features reach the disk after every batch, not every two seconds: so few pictures take less."""
    from mlvl_fairseq.data.features import FeatureWriter

    FeatureWriter.__init__ = partialmethod(FeatureWriter.__init__, flush_seconds=0.0)


@job()
def picture_world(world: SmallWorld, out: Path) -> str:
    return f"mlvl-picture-world {out} --train 40 --valid 10 --test 10 --languages {ORDER}"


@job(share=2)
def prepare_captions(world: SmallWorld, out: Path) -> str:
    """Reading, BPE, binarizing."""
    return f"mlvl-prepare {out} {world.captions} --order {ORDER} --joint en,de --oracle en,de"


@job()
def prepare_language_more(world: SmallWorld, out: Path) -> str:
    shutil.copytree(world.bilingual_corpus, out, dirs_exist_ok=True)
    return f"mlvl-prepare {out} {world.captions} --order {ORDER}"


@job(share=3, change=flush_every_batch)
def prepare_teacher_features(world: SmallWorld, out: Path) -> str:
    shutil.copytree(world.plain_corpus, out, dirs_exist_ok=True)
    return f"mlvl-prepare {out} --teacher {world.teacher} --batch-size 4"


@job(change=flush_every_batch)
def prepare_given_features(world: SmallWorld, out: Path) -> str:
    shutil.copytree(world.plain_corpus, out, dirs_exist_ok=True)
    features, names = world.corpus / "features" / "train.image.npy", world.corpus / "images" / "train.txt"
    return f"mlvl-prepare {out} --image-features train={features} --image-list train={names}"


@job(share=2, change=flush_every_batch)
def prepare_text_states(world: SmallWorld, out: Path) -> str:
    shutil.copytree(world.plain_corpus, out, dirs_exist_ok=True)
    return f"mlvl-prepare {out} --sentencepiece {world.pieces} --mte {world.mte}"


@job()
def sentencepiece(world: SmallWorld, out: Path) -> str:
    return f"mlvl-sentencepiece {out} --train {world.sentences}/train.de.txt --vocab-size 100"


@job(share=4)
def cll_replay(world: SmallWorld, out: Path) -> str:
    options = f"--method er_with_teir --order {ORDER} {world.sequence_options} --memory-size 20"
    return f"mlvl-cll {world.corpus} {out} {options} --save-interval-updates 2"


@job(share=4)
def cll_dark_replay(world: SmallWorld, out: Path) -> str:
    options = f"--method derpp --order {ORDER} {world.sequence_options} --memory-size 20"
    return f"mlvl-cll {world.corpus} {out} {options} --save-interval-updates 2"


@job(share=2)
def train_teacher(world: SmallWorld, out: Path) -> str:
    return f"fairseq-train {world.teacher_options} --max-epoch 3 --save-interval-updates 2 --save-dir {out}"


@job(share=3)
def train_trikd(world: SmallWorld, out: Path) -> str:
    return f"fairseq-train {world.trikd_options} --max-epoch 2 --save-interval-updates 2 --save-dir {out}"


@job(share=3)
def train_mte(world: SmallWorld, out: Path) -> str:
    """With validation, which translates."""
    return f"fairseq-train {world.mte_options} --max-epoch 2 --save-interval-updates 2 --save-dir {out}"


@job(share=2)
def evaluate(world: SmallWorld, out: Path) -> str:
    return f"mlvl-evaluate {world.evaluate_options} --output-dir {out}/scores --json {out}/scores.json"


@job()
def encode(world: SmallWorld, out: Path) -> str:
    return f"mlvl-encode --sentencepiece {world.pieces} < {world.sentences}/train.de.txt > {out}/pieces.txt"


@job()
def fuse(world: SmallWorld, out: Path) -> str:
    captions = f"--captions {world.world}/train.vision-en-de.tsv --lang de --image-root {world.world}/images"
    return f"mlvl-fuse --checkpoint {world.teacher} {captions} --json {out}/fusion.json --plot {out}/fusion.png"


@job()
def export(world: SmallWorld, out: Path) -> str:
    return f"mlvl-export mte {world.trained_mte} {out}/xlmr/mte.pt --sentencepiece {world.pieces}"


@job()
def convert(world: SmallWorld, out: Path) -> str:
    return f"mlvl-convert mclip {world.released_mclip} {out}/mclip --sentencepiece {world.pieces}"


@job()
def report(world: SmallWorld, out: Path) -> str:
    return f"mlvl-report {world.run_folder} --output {out}/report"


@job()
def analyse_attention(world: SmallWorld, out: Path) -> str:
    shutil.copytree(world.run_folder, out / "run", dirs_exist_ok=True)
    return f"mlvl-analyse attention {out}/run --max-captions 16"


@job()
def analyse_convergence(world: SmallWorld, out: Path) -> str:
    shutil.copytree(world.run_folder, out / "run", dirs_exist_ok=True)
    return f"mlvl-analyse convergence {out}/run --max-captions 16 --noise 0 0.01"


@job()
def quickstart(world: SmallWorld, out: Path) -> str:
    few = "--pictures 70 --teacher-epochs 1 --epochs 1 --order en,de --methods cll_clip,er"
    return f"mlvl-quickstart --output {out} {few}"


@dataclass(frozen=True)
class Moment:
    """When a command is killed, and how.

    Attributes:
        event: before its n-th change of a file of the output; 0: as soon as it starts.
        delay: share of the time until the next change by which it is killed later; 0: before the change is made.
        signal: name of the signal.
    """

    event: int
    delay: float
    signal: str

    def __str__(self) -> str:
        return f"{self.signal} {'at' if not self.delay else f'{self.delay:.0%} behind'} change {self.event}"


class Watch:
    """What a command's processes share with the one that watches them: how often they have changed the output."""

    def __init__(self, out: Path, moment: Optional[Moment] = None):
        context = multiprocessing.get_context("fork")
        self.out, self.moment = str(out), moment
        self.events, self.times = context.Value("l", 0), context.Array("d", 20_000)

    def install(self) -> None:
        """In the command's process, and in those that it forks."""
        self.group, self.armed = os.getpid(), True
        sys.addaudithook(self._on_event)

    def _on_event(self, name: str, arguments: Tuple[Any, ...]) -> None:
        if name == "open":
            changes = bool(arguments[2] & WRITING) if isinstance(arguments[2], int) else True
        else:
            changes = name in ("os.rename", "os.remove", "os.mkdir", "os.truncate", "os.rmdir")
        if not changes or not any(self._is_output(argument) for argument in arguments[:2]):
            return
        with self.events.get_lock():
            number = self.events.value
            self.events.value += 1
            self.times[min(number, len(self.times) - 1)] = time.monotonic()
        moment = self.moment
        if moment is not None and number == moment.event and not moment.delay:
            send(SIGNALS[moment.signal], self.group)

    def _is_output(self, path: Any) -> bool:
        try:
            path = os.path.abspath(os.fsdecode(path))
        except TypeError:  # a descriptor
            return False
        return path.startswith(self.out) and not path.endswith((".lock", ".log"))


def send(number: int, group: int) -> None:
    """SIGTERM goes to the command itself, as `kill` sends it; the others go to all processes of its group."""
    try:
        os.kill(group, number) if number == signal.SIGTERM else os.killpg(group, number)
    except ProcessLookupError:
        pass


class Command:
    """A command line at work in processes of its own, forked with everything imported."""

    def __init__(self, job: Job, line: str, log: Path, watch: Watch):
        self.watch, self.log, self.began = watch, log, time.monotonic()
        context = multiprocessing.get_context("fork")
        self._process = context.Process(target=_run, args=(job, line, log, watch))
        self._process.start()

    def wait(self) -> int:
        """Its exit status. Raises RuntimeError: it, or a process of its group, goes on and on."""
        self._process.join(PATIENCE)
        deadline = time.monotonic() + 20
        while group_members(self._process.pid) and time.monotonic() < deadline:
            time.sleep(0.02)
        if self._process.is_alive() or group_members(self._process.pid):
            send(signal.SIGKILL, self._process.pid)
            self._process.join()
            raise RuntimeError(f"does not end, or leaves processes behind: {self.log}")
        return self._process.exitcode

    def kill_later(self, moment: Moment, pause: float) -> None:
        """Wait for the moment and send the signal `pause` seconds later, if the command is still at work."""
        while self._process.is_alive() and self.watch.events.value <= moment.event:
            time.sleep(0.001)
        self._process.join(pause)
        if self._process.is_alive():
            send(SIGNALS[moment.signal], self._process.pid)


def group_members(group: int) -> List[int]:
    """Processes of a group that are still at work."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            state, _, own = (path / "stat").read_text().rpartition(")")[2].split()[:3]
        except OSError:  # it ends just now
            continue
        if int(own) == group and state not in "ZX":
            found.append(int(path.name))
    return found


def _run(job: Job, line: str, log: Path, watch: Watch) -> None:
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    line, _, out = line.partition(" > ")
    line, _, given = line.partition(" < ")
    with open(log, "ab") as file, open(given or os.devnull, "rb") as stdin:
        for source, target in ((stdin, 0), (file, 1), (file, 2)):
            os.dup2(source.fileno(), target)
    watch.install()
    if out:
        with open(out, "wb") as file:
            os.dup2(file.fileno(), 1)
    sys.stdin, sys.stdout, sys.stderr = (open(n, "rw"[n > 0], buffering=1, closefd=False) for n in (0, 1, 2))
    if job.change:
        job.change()
    name, *arguments = sys.argv = shlex.split(line)
    package = "fairseq_cli" if name.startswith("fairseq-") else "mlvl_fairseq.cli"
    importlib.import_module(f"{package}.{name.partition('-')[2].replace('-', '_')}").cli_main()


def differences(run: Path, whole: Path) -> List[str]:
    """Places at which two output folders differ."""
    mine, theirs = (set(compared(folder)) for folder in (run, whole))
    places = [f"{name} is in one of them" for name in sorted(mine ^ theirs)]
    for name in sorted(mine & theirs):
        if name.endswith(".pt"):
            places += [f"{name}: {place}" for place in differing_weights(run / name, whole / name)]
        elif content(run / name) != content(whole / name):
            places.append(name)
    return places


def compared(folder: Path) -> Iterator[str]:
    """Files that must be the same."""
    for path in folder.rglob("*"):
        if path.is_file() and not any(fnmatch(path.name, pattern) for pattern in (*LEFT_OUT, *TEMPORARY)):
            yield str(path.relative_to(folder))


def left_over(folder: Path) -> List[str]:
    """Temporary files that nobody needs any more."""
    return sorted({str(path.relative_to(folder)) for pattern in TEMPORARY for path in folder.rglob(pattern)})


def content(path: Path) -> Any:
    """A file's bytes; of a JSON object what it says, but for costs (JSON holds every digit of a number)."""
    if path.suffix != ".json":
        return path.read_bytes()
    return without_costs(json.loads(path.read_text(encoding="utf-8")))


def without_costs(value: Any) -> Any:
    """JSON less the fields that say what a run cost."""
    if isinstance(value, dict):
        return {key: without_costs(inner) for key, inner in value.items() if key not in COSTS}
    return [without_costs(inner) for inner in value] if isinstance(value, list) else value


def differing_weights(run: Path, whole: Path) -> List[str]:
    one, other = load_checkpoint_file(run), load_checkpoint_file(whole)
    if "extra_state" in one and one.get("last_optimizer_state", 0) is not None:
        return differing(run, whole)
    return [] if same(one, other) else ["its tensors"]


def same(one: Any, other: Any) -> bool:
    """Do two trees of containers hold the same, tensors bit by bit?"""
    import torch

    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        alike = one.dtype == other.dtype and one.shape == other.shape
        return alike and one.contiguous().numpy().tobytes() == other.contiguous().numpy().tobytes()
    return one == other


def change_weight(path: Path) -> None:
    """The last bit of one number of a checkpoint."""
    import torch

    state = load_checkpoint_file(path)
    tensors = [one for one in state.get("model", state).values() if isinstance(one, torch.Tensor) and one.numel()]
    tensors[0].view(-1).view(torch.uint8)[0] ^= 1
    torch.save(state, path)


@dataclass
class Outcome:
    """How a disturbed command ended.

    Attributes:
        job: its name. disturbed: by what. statuses: exit statuses. differences: from the undisturbed one.
        left: temporary files that stayed. problem: what else was wrong; empty: nothing.
    """

    job: str
    disturbed: str
    statuses: List[Optional[int]] = field(default_factory=list)
    differences: List[str] = field(default_factory=list)
    left: List[str] = field(default_factory=list)
    problem: str = ""

    @property
    def equal(self) -> bool:
        return not self.differences and not self.problem

    def row(self, number: int) -> str:
        statuses = ", ".join(map(str, self.statuses))
        left = len(self.left) or ""
        return f"| {number} | {self.job} | {self.disturbed} | {statuses} | {left} | {'yes' if self.equal else 'NO'} |"


class Harness:
    """Undisturbed commands, and the same ones disturbed, all in the same place, so that paths in results are equal.

    Args:
        world: what commands work on. folder: of their results.
    """

    def __init__(self, world: SmallWorld, folder: Path):
        self.world, self.folder = world, folder.resolve()

    def out(self, job: Job) -> Path:
        return self.folder / job.name / "out"

    def fresh(self, job: Job) -> Tuple[Path, str]:
        """An output folder with what the command goes on from, and its line."""
        out = self.out(job)
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        return out, job.prepare(self.world, out)

    def log(self, job: Job) -> Path:
        return self.folder / job.name / "log.log"

    def run_undisturbed(self, job: Job) -> List[float]:
        """Its result stays in ``whole``; gives the times of its changes and its end, in seconds from its start."""
        whole, known = self.folder / job.name / "whole", self.folder / job.name / "times.json"
        if not known.exists():
            out, line = self.fresh(job)
            watch = Watch(out)
            command = Command(job, line, self.log(job), watch)
            status, ended = command.wait(), time.monotonic()
            if status:
                raise RuntimeError(f"{job.name}: exit status {status} undisturbed: {self.log(job)}")
            shutil.rmtree(whole, ignore_errors=True)
            out.rename(whole)
            times = [moment - command.began for moment in watch.times[: watch.events.value]]
            known.write_text(json.dumps([*times, ended - command.began]))
        return json.loads(known.read_text())

    def kill(self, job: Job, moment: Moment, times: Sequence[float]) -> Outcome:
        """Kill a command, run it again, compare."""
        outcome = Outcome(job.name, str(moment))
        try:
            out, line = self.fresh(job)
            watch = Watch(out, moment)
            command = Command(job, line, self.log(job), watch)
            if moment.delay:
                command.kill_later(moment, moment.delay * (times[moment.event + 1] - times[moment.event]))
            first = command.wait()
            outcome.statuses.append(first)
            if first not in (0, *ENDED_BY[moment.signal]):
                outcome.problem = f"exit status {first} of {moment.signal}"
            again = Command(job, line, self.log(job), Watch(out)).wait()
            outcome.statuses.append(again)
            if again:
                outcome.problem = f"exit status {again} when it is run again: {last_line(self.log(job))}"
            self._compare(job, outcome)
        except RuntimeError as error:
            outcome.problem = str(error)
        return outcome

    def run_two(self, job: Job, head_start: float, times: Sequence[float]) -> Outcome:
        """Two processes in one folder; the second one starts a share of the time later."""
        outcome = Outcome(job.name, f"two at once, {head_start:.0%} later")
        try:
            out, line = self.fresh(job)
            logs = [self.log(job).with_name(f"two{i}.log") for i in range(2)]
            for log in logs:
                log.unlink(missing_ok=True)
            first = Command(job, line, logs[0], Watch(out))
            time.sleep(head_start * times[-1])
            second = Command(job, line, logs[1], Watch(out))
            outcome.statuses = [first.wait(), second.wait()]
            outcome.problem = two_problem(outcome.statuses, logs)
            self._compare(job, outcome)
        except RuntimeError as error:
            outcome.problem = str(error)
        return outcome

    def control(self, job: Job) -> Outcome:
        """The undisturbed result with one file changed a little: the difference must be found."""
        whole, out, rng = self.folder / job.name / "whole", self.out(job), random.Random(job.name)
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(whole, out)
        path = out / rng.choice(sorted(name for name in compared(out) if not name.endswith(".json")))
        if path.suffix == ".pt":
            change_weight(path)
        else:
            data = bytearray(path.read_bytes())
            data[rng.randrange(len(data))] ^= 1
            path.write_bytes(data)
        return Outcome(job.name, f"control: {path.relative_to(out)}", differences=differences(out, whole))

    def _compare(self, job: Job, outcome: Outcome) -> None:
        outcome.differences = differences(self.out(job), self.folder / job.name / "whole")
        outcome.left = left_over(self.out(job))


def two_problem(statuses: Sequence[int], logs: Sequence[Path]) -> str:
    """What is wrong with how two processes ended, in words."""
    if 0 not in statuses:
        return f"none of the two finishes: {last_line(logs[0])}; {last_line(logs[1])}"
    for status, log in zip(statuses, logs):
        text = log.read_text(encoding="utf-8", errors="replace")
        if status not in (0, 2) or (status and ("Traceback" in text or text.count("error: ") != 1)):
            return f"exit status {status}: {last_line(log)}"
    return ""


def last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1][:200] if lines else "it printed nothing"


def draw_moments(job: Job, number: int, times: Sequence[float], seed: int) -> List[Moment]:
    """Half of them exactly at a change of a file, half behind one, long gaps more often; SIGKILL every other time."""
    rng, events = random.Random(f"{seed} {job.name}"), len(times) - 1
    if not events:
        return []
    gaps = [max(times[i + 1] - times[i], 1e-6) for i in range(events)]
    moments = []
    for i in range(number):
        name = "SIGKILL" if rng.random() < 0.5 else rng.choice(("SIGTERM", "SIGINT"))
        if rng.random() < 0.5:
            moments.append(Moment(rng.randrange(events), 0.0, name))
        else:
            moments.append(Moment(rng.choices(range(events), gaps)[0], round(rng.uniform(0.05, 0.95), 2), name))
    return moments


class Journal:
    """Outcomes by key, kept in a file, so that an interrupted table goes on."""

    def __init__(self, path: Path):
        self.path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self.known = {entry["key"]: Outcome(**entry["outcome"]) for entry in map(json.loads, lines)}

    def once(self, key: str, make: Callable[[], Outcome]) -> Outcome:
        if key not in self.known:
            self.known[key] = make()
            with open(self.path, "a") as file:
                file.write(json.dumps({"key": key, "outcome": asdict(self.known[key])}) + "\n")
        return self.known[key]


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=60, help="spread over the jobs (default: %(default)s)")
    parser.add_argument("--pairs", type=int, default=2, help="of processes at once, each job (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments (default: %(default)s)")
    parser.add_argument("--job", metavar="PATTERN", default="*", help="only these jobs (default: all)")
    parser.add_argument("--list-jobs", action="store_true", help="list the jobs and exit")
    parser.add_argument("--fresh", action="store_true", help="start over: keep nothing but the valid files")
    parser.add_argument(
        "--folder", type=Path, default=Path("outputs/kills"), help="of everything (default: %(default)s)"
    )
    return parser


def main(argv: Optional[List[str]] = None) -> int:
    args = build_parser().parse_args(argv)
    jobs = [job for name, job in JOBS.items() if fnmatch(name, args.job)]
    if args.list_jobs:
        print("\n".join(job.name for job in jobs))
        return 0
    import_everything()
    work = args.folder / "work"
    if args.fresh:
        shutil.rmtree(work, ignore_errors=True)
    harness = Harness(SmallWorld(args.folder / "valid"), work)
    times = {job.name: harness.run_undisturbed(job) for job in tqdm(jobs, desc="undisturbed", unit=" jobs")}
    return table(harness, jobs, times, args)


def table(harness: Harness, jobs: Sequence[Job], times: Dict[str, List[float]], args) -> int:
    """Print it; 0 if everything is equal."""
    journal = Journal(harness.folder / "outcomes.jsonl")
    total = sum(job.share for job in jobs)
    planned: List[Tuple[str, Callable[[], Outcome]]] = []
    for job in jobs:
        number, its = max(1, round(args.kills * job.share / total)), times[job.name]
        for i, moment in enumerate(draw_moments(job, number, its, args.seed)):
            key = f"{args.seed} {job.name} {i} {moment}"
            planned.append((key, lambda job=job, moment=moment, its=its: harness.kill(job, moment, its)))
        for i in range(args.pairs):
            share = (0.0, 0.4, 0.8)[i % 3]
            planned.append(
                (f"two {job.name} {i}", lambda job=job, share=share, its=its: harness.run_two(job, share, its))
            )
    print("| # | command | disturbed | exit statuses | left over | equal |\n|---:|---|---|---|--:|---|", flush=True)
    outcomes = []
    for key, make in tqdm(planned, unit=" disturbances"):
        outcomes.append(journal.once(key, make))
        tqdm.write(outcomes[-1].row(len(outcomes)), file=sys.stdout)
    controls = [harness.control(job) for job in tqdm(jobs, desc="controls")]
    kills = [one for one in outcomes if not one.disturbed.startswith("two")]
    for name, group in (("kills", kills), ("pairs", [one for one in outcomes if one not in kills])):
        killed = sum(one.statuses[:1] != [0] for one in group)
        print(f"\n{name}: {sum(one.equal for one in group)} of {len(group)} equal", end="")
        print(f" ({killed} ended by the signal, the others had finished)" if name == "kills" else "", end="")
    unnoticed = [one for one in controls if one.equal]
    print(f"\n\ncontrols: {len(controls) - len(unnoticed)} of {len(controls)} changed results found to differ")
    for one in outcomes:
        if not one.equal:
            count, first = len(one.differences), "; ".join(one.differences[:3])
            print(
                f"- {one.job}, {one.disturbed}: {one.problem or ''} {f'{count} differences: {first}' if count else ''}"
            )
        if one.left:
            print(f"- {one.job}, {one.disturbed}: left over {', '.join(one.left[:3])}")
    return int(bool(unnoticed) or not all(one.equal for one in outcomes))


if __name__ == "__main__":
    sys.exit(main())
