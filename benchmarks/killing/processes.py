"""A command in processes of its own, and moments at which it is killed: counted by its changes of the output."""

import importlib
import multiprocessing
import os
import random
import shlex
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, List, Optional, Sequence, Tuple

from killing.jobs import Job

PATIENCE = 180.0  # seconds for a command to end
SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


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

    def wait_for_changes(self, number: int) -> None:
        """Until it has changed so many files, or has ended."""
        while self._process.is_alive() and self.watch.events.value < number:
            time.sleep(0.001)

    def kill_later(self, moment: Moment, pause: float) -> None:
        """Wait for the moment and send the signal `pause` seconds later, if the command is still at work."""
        self.wait_for_changes(moment.event + 1)
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
