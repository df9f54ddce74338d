"""Is what a killed command leaves, once the same command is run again, what an undisturbed one leaves, byte by byte?

Every command that writes runs undisturbed; then it is killed (SIGKILL of all its processes; SIGTERM; Ctrl-C) at moments
drawn by a seed: just before the n-th time that it opens, renames or removes a file of its output, or some time after
that, in the middle of its work. It is run again, and the folders are compared. After that two processes run in one
folder at the same time, one of them killed in the second case: one finishes, the other one waits or is refused in one
line with exit status 2. Control: a result of each command, changed in one bit, is found to differ.

Compared are all files: of checkpoints every tensor and how far training has come, of others all bytes. Left out are
logs, lock files, what a run cost (seconds and memory, in costs.* and in reports), times and options in checkpoints,
their digests (a teacher's in teacher.json and run.json), and `checkpoint_bytes` in done.json (fairseq notes every start
in a checkpoint). Exit
status 0: everything is equal.

    python benchmarks/kills.py                       # about eight minutes; again: goes on where it was interrupted
    python benchmarks/kills.py --job 'cll_*' --kills 20 --seed 3
"""

import argparse
import json
import random
import shutil
import sys
import time
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence, Tuple

from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent))

from killing.comparing import change_weight, compared, differences, left_over  # noqa: E402
from killing.jobs import AT_WORK, JOBS, Job  # noqa: E402
from killing.processes import Command, Moment, Watch, draw_moments  # noqa: E402
from small_world import SmallWorld, import_everything  # noqa: E402

ENDED_BY = {"SIGKILL": (-9,), "SIGTERM": (143, -15), "SIGINT": (130, -2)}


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


@dataclass(frozen=True)
class Pair:
    """Two processes at once.

    Attributes:
        after: the second one starts when the first has changed so many files.
        killed: which one is killed, 0 or 1; None: none. moment: when.
    """

    after: int
    killed: Optional[int] = None
    moment: Optional[Moment] = None

    def __str__(self) -> str:
        end = "" if self.killed is None else f", the {('first', 'second')[self.killed]}: {self.moment}"
        return f"two at once, the second after {self.after} changes{end}"


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
            if (out / AT_WORK).exists():
                outcome.disturbed += f" ({(out / AT_WORK).read_text() or 'between batches'})"
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

    def run_two(self, job: Job, pair: Pair) -> Outcome:
        """Two processes in one folder. Where one is killed, the command is run again when the other one has ended."""
        outcome = Outcome(job.name, str(pair))
        try:
            out, line = self.fresh(job)
            logs = [self.log(job).with_name(f"two{i}.log") for i in range(2)]
            for log in logs:
                log.unlink(missing_ok=True)
            moments = [pair.moment if pair.killed == i else None for i in range(2)]
            first = Command(job, line, logs[0], Watch(out, moments[0]))
            first.wait_for_changes(pair.after)
            second = Command(job, line, logs[1], Watch(out, moments[1]))
            outcome.statuses = [first.wait(), second.wait()]
            survivors = [i for i in range(2) if i != pair.killed]
            refused = len(survivors) == 1
            statuses = [outcome.statuses[i] for i in survivors]
            outcome.problem = two_problem(statuses, [logs[i] for i in survivors], refused)
            if refused:
                outcome.statuses.append(Command(job, line, logs[survivors[0]], Watch(out)).wait())
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


def two_problem(statuses: Sequence[int], logs: Sequence[Path], refused: bool) -> str:
    """What is wrong with how processes ended, in words. `refused`: each may be."""
    if 0 not in statuses and not refused:
        return f"none of the two finishes: {'; '.join(map(last_line, logs))}"
    for status, log in zip(statuses, logs):
        text = log.read_text(encoding="utf-8", errors="replace")
        if status not in (0, 2) or (status and ("Traceback" in text or text.count("error: ") != 1)):
            return f"exit status {status}: {last_line(log)}"
    return ""


def last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1][:200] if lines else "it printed nothing"


def draw_pairs(job: Job, times: Sequence[float], seed: int) -> List[Pair]:
    """Both from the beginning; the first killed late; the second killed early; none. Where the second starts is drawn,
    the longest work of the first most often."""
    rng, last = random.Random(f"{seed} {job.name} pairs"), max(len(times) - 2, 1)
    late = Moment(rng.randrange(last // 2, last), 0.0, "SIGKILL")
    early = Moment(rng.randrange(min(8, last)), 0.0, "SIGKILL")
    gaps = [max(after - before, 1e-6) for before, after in zip(times, times[1:])]
    drawn = [1 + rng.choices(range(len(gaps)), gaps)[0] for _ in range(3)]
    return [Pair(0), Pair(min(drawn[0], late.event), 0, late), Pair(drawn[1], 1, early), Pair(drawn[2])]


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
    parser.add_argument(
        "--pairs", type=int, choices=range(5), default=4, help="of processes at once, each job (default: %(default)s)"
    )
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
            planned.append((key, partial(harness.kill, job, moment, its)))
        for i, pair in enumerate(draw_pairs(job, its, args.seed)[: args.pairs]):
            planned.append((f"{args.seed} {job.name} {i} {pair}", partial(harness.run_two, job, pair)))
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
