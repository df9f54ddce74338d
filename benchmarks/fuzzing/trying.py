"""One damaged input, tried under limits: in a forked child of this process, or as the command itself."""

import contextlib
import io
import multiprocessing
import os
import random
import resource
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional, Sequence, Set, Tuple

from small_world import SmallWorld, as_main

from fuzzing import formats  # noqa: F401  registers its mutations
from fuzzing.kinds import KINDS, Kind
from fuzzing.mutations import MUTATIONS, Scene, draw

READ, REFUSED, VAGUE, FAILED = "read", "refused", "vague", "failed"
BATCH = 25  # inputs a child tries before the next one is forked
GRACE = 10.0  # seconds beyond the limit before a child that does not react is killed
ADDRESS_SPACE = 4 << 30  # bytes that a child may add to what it has: what is above the bound is measured, not endured
COMMAND_MIB = 1500  # of a command of its own, its libraries included


@dataclass(frozen=True)
class Input:
    """A damaged input, determined by its three parts (and by the valid files, which a kept folder holds).

    Attributes:
        kind: name of the kind. number: of the input within it. seed: of the whole.
    """

    kind: str
    number: int
    seed: int

    @property
    def id(self) -> str:
        return f"{self.seed}:{self.kind}:{self.number}"

    @classmethod
    def from_id(cls, text: str) -> "Input":
        seed, kind, number = text.split(":")
        return cls(kind, int(number), int(seed))

    def write(self, world: SmallWorld, folder: Path, only: Optional[str] = None) -> Tuple[Sequence[str], str]:
        """Put it into ``FOLDER/a/b/unit``; gives the command lines that read it, and what was done to which file.

        Args:
            only: name of the one mutation that is made; None: drawn. One flipped bit is one in a sealed file.
        """
        rng, unit, kind = random.Random(self.id), folder / "a" / "b" / "unit", KINDS[self.kind]
        unit.mkdir(parents=True)
        lines = kind.prepare(world, unit)
        patterns = kind.sealed if only == "flip_one_bit" else kind.damaged
        files = sorted({path for pattern in patterns for path in unit.glob(pattern) if path.is_file()})
        path = rng.choice(files)
        content = path.read_bytes()
        path.unlink()  # it may be a link to a file of the world
        path.write_bytes(content)
        name, mutate = (only, MUTATIONS[only][1]) if only else draw(path, rng)
        what = mutate(Scene(path, folder / "outside", rng))
        return lines, f"{path.relative_to(unit)}: {name}, {what}"


@dataclass(frozen=True)
class Outcome:
    """What came of an input.

    Attributes:
        verdict: read; refused in one line that names a file of the input; vague: refused without naming one; failed.
        detail: the error. mib: memory beyond what the process had. seconds: until it was over.
    """

    input: Input
    what: str
    verdict: str
    detail: str = ""
    seconds: float = 0.0
    mib: float = 0.0


class Late(BaseException):
    """The time is over."""


def _late(*_):
    raise Late


def try_in_children(
    inputs: Sequence[Input], world: SmallWorld, scratch: Path, seconds: float, only: Optional[str] = None
) -> Iterator[Outcome]:
    """Try inputs in forked children, one at a time. A child that hangs or dies costs the input it was at."""
    rest = list(inputs)
    while rest:
        context = multiprocessing.get_context("fork")
        receiver, sender = context.Pipe(duplex=False)
        child = context.Process(target=_child, args=(rest[:BATCH], world, scratch, seconds, only, sender))
        child.start()
        sender.close()
        done = 0
        with contextlib.suppress(EOFError):
            while done < len(rest[:BATCH]) and receiver.poll(seconds + GRACE):
                yield receiver.recv()
                done += 1
        if done < len(rest[:BATCH]):
            died = not child.is_alive() or child.join(0.5) or not child.is_alive()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.join()
            detail = f"the process died of signal {-child.exitcode}" if died else "hangs, and cannot be interrupted"
            yield Outcome(rest[done], _described(rest[done], world, scratch, only), FAILED, detail)
            done += 1
        child.join()
        rest = rest[done:]


def _described(failed: Input, world: SmallWorld, scratch: Path, only: Optional[str]) -> str:
    with _fresh(scratch) as folder:
        return failed.write(world, folder, only)[1]


@contextlib.contextmanager
def _fresh(scratch: Path) -> Iterator[Path]:
    """An empty folder that leaves nothing behind."""
    folder = scratch / f"input{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _child(inputs: Sequence[Input], world: SmallWorld, scratch: Path, seconds: float, only, sender) -> None:
    os.setsid()
    signal.signal(signal.SIGALRM, _late)
    limit = _status_kib("VmSize") * 1024 + ADDRESS_SPACE
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for one in inputs:
        sender.send(try_here(one, world, scratch, seconds, only))


def try_here(one: Input, world: SmallWorld, scratch: Path, seconds: float, only: Optional[str] = None) -> Outcome:
    """Try an input in this very process."""
    with _fresh(scratch) as folder:
        before = _world_state(world)
        lines, what = one.write(world, folder, only)
        unit, began = folder / "a" / "b" / "unit", time.monotonic()
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
        start, output = _status_kib("VmRSS"), folder.with_suffix(".log")
        with _output_to(output):
            signal.setitimer(signal.ITIMER_REAL, seconds)
            try:
                verdict, detail = _judge(lines, unit)
            except Late:
                verdict, detail = FAILED, f"not done after {seconds:g} s"
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        taken, mib = time.monotonic() - began, (_status_kib("VmHWM") - start) / 1024
        outcome = Outcome(one, what, verdict, detail, taken, mib)
        if verdict == FAILED:
            return outcome
        if "Traceback" in output.read_text(errors="replace"):
            return replace(outcome, verdict=FAILED, detail="prints a traceback")
        if mib > KINDS[one.kind].memory:
            return replace(outcome, verdict=FAILED, detail=f"takes {mib:.0f} MiB")
        written = _outside(folder, unit) | (_world_state(world) ^ before)
        if written:
            return replace(outcome, verdict=FAILED, detail=f"writes outside: {sorted(map(str, written))[:3]}")
        return outcome


def _judge(lines: Sequence[str], unit: Path) -> Tuple[str, str]:
    """Run command lines in this process; the first that is refused ends it."""
    for line in lines:
        name, arguments, stdin = split_line(line)
        try:
            with _standard_input(stdin), _as_program(name, arguments):
                as_main(name)(arguments)
        except SystemExit as end:
            if end.code not in (0, None, 2):
                return FAILED, f"{name}: exit status {end.code}"
            if end.code == 2:
                return VAGUE, f"{name}: exit status 2 of argparse"
        except Exception as error:
            return _verdict_on(error, name, unit)
    return READ, ""


def _verdict_on(error: Exception, command: str, unit: Path) -> Tuple[str, str]:
    from mlvl_fairseq.cli.common import describe_error
    from mlvl_fairseq.errors import UserError, without_line_ends
    from mlvl_fairseq.process.exit_status import user_message

    if command.startswith("fairseq-"):
        message = user_message(error)
        message = message and without_line_ends(message)
    else:
        message = describe_error(error) if isinstance(error, (UserError, OSError)) else None
    if message is None:
        return FAILED, f"{type(error).__name__} in {_place(error)}: {str(error)[:120]!r}"
    if "\n" in message.strip():
        return FAILED, f"{command}: {len(message.splitlines())} lines of message: {message[:100]!r}"
    names = (str(unit), "standard input", *(path.name for path in unit.rglob("*")))
    names_a_file = any(name in message for name in names)
    return REFUSED if names_a_file else VAGUE, f"{command}: {message[:200]}"


def _place(error: Exception) -> str:
    """The last line of ours in a traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "mlvl_fairseq" in frame.filename] or frames
    return f"{Path(ours[-1].filename).name}:{ours[-1].lineno} {ours[-1].name}"


def split_line(line: str) -> Tuple[str, List[str], Optional[str]]:
    """Command, arguments, and the file of its standard input."""
    line, _, stdin = line.partition(" < ")
    name, *arguments = shlex.split(line)
    return name, [argument_in(one[2:]) if one.startswith("@@") else one for one in arguments], stdin.strip() or None


def argument_in(path: str) -> str:
    """The content of a file as a shell would hand it over: an argument ends at a zero byte."""
    with open_input(path) as file:
        return os.fsdecode(file.read(100_000).partition(b"\0")[0])


def open_input(path: Optional[str]):
    """What a shell would hand over; what it could not open is empty."""
    usable = path and os.path.exists(path) and stat.S_IFMT(os.stat(path).st_mode) in (stat.S_IFREG, stat.S_IFCHR)
    return open(path if usable else os.devnull, "rb")


@contextlib.contextmanager
def _standard_input(path: Optional[str]):
    with open_input(path) as file:
        before, sys.stdin = sys.stdin, io.TextIOWrapper(file, encoding="utf-8")
        try:
            yield
        finally:
            sys.stdin = before


@contextlib.contextmanager
def _as_program(name: str, arguments: Sequence[str]):
    before, sys.argv = sys.argv, [name, *arguments]
    try:
        yield
    finally:
        sys.argv = before


@contextlib.contextmanager
def _output_to(path: Path):
    """Standard output and error, those of child processes included."""
    saved = [os.dup(1), os.dup(2)]
    with open(path, "wb") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (
        io.TextIOWrapper(open(n, "wb", 0, closefd=False), "utf-8", errors="backslashreplace") for n in (1, 2)
    )
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        sys.stdout, sys.stderr = streams
        for number, copy in zip((1, 2), saved):
            os.dup2(copy, number)
            os.close(copy)


def _status_kib(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise KeyError(field)


def _outside(folder: Path, unit: Path) -> Set[Path]:
    """What lies in the folder of an input and not in the unit."""
    return {path for path in folder.rglob("*") if unit not in path.parents and path not in (unit, *unit.parents)}


def _world_state(world: SmallWorld) -> Set[Tuple[str, int, int]]:
    """Path, size and time of every valid file: nobody may change one."""
    found = set()
    for folder, _, files in os.walk(world.folder):
        for name in files:
            if name not in (".lock", "log.txt"):
                path = os.path.join(folder, name)
                status = os.lstat(path)
                found.add((path, status.st_size, status.st_mtime_ns))
    return found


def try_as_command(one: Input, world: SmallWorld, scratch: Path, seconds: float) -> Outcome:
    """Try an input by the commands themselves."""
    with _fresh(scratch) as folder:
        lines, what = one.write(world, folder)
        began, peak, verdict, detail = time.monotonic(), 0.0, READ, ""
        for line in lines:
            name, arguments, stdin = split_line(line)
            with open_input(stdin) as source, open(scratch / "command.log", "w+b") as log:
                program = str(Path(sys.executable).parent / name)
                process = subprocess.Popen(
                    [program, *arguments], stdin=source, stdout=log, stderr=log, start_new_session=True
                )
                status, mib = _wait(process, seconds)
                log.seek(0)
                said = log.read().decode("utf-8", "replace")
            peak = max(peak, mib)
            verdict, detail = _verdict_on_command(name, status, said, mib)
            if verdict != READ:
                break
        unit = folder / "a" / "b" / "unit"
        if _outside(folder, unit):
            verdict, detail = FAILED, f"writes outside: {sorted(map(str, _outside(folder, unit)))[:3]}"
        return Outcome(one, what, verdict, detail, time.monotonic() - began, peak)


def _wait(process: subprocess.Popen, seconds: float) -> Tuple[Optional[int], float]:
    """Exit status (None: killed, as it took too long) and MiB."""
    deadline = time.monotonic() + seconds
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return process.returncode, usage.ru_maxrss / 1024
        if time.monotonic() > deadline:
            os.killpg(process.pid, signal.SIGKILL)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            return None, usage.ru_maxrss / 1024
        time.sleep(0.05)


def _verdict_on_command(name: str, status: Optional[int], said: str, mib: float) -> Tuple[str, str]:
    last = (said.strip().splitlines() or [""])[-1][:200]
    if status is None:
        return FAILED, f"{name}: hangs"
    if "Traceback" in said or status not in (0, 2):
        return FAILED, f"{name}: exit status {status}: {last}"
    if mib > COMMAND_MIB:
        return FAILED, f"{name}: takes {mib:.0f} MiB"
    return (REFUSED, f"{name}: {last}") if status == 2 else (READ, "")


def inputs_of(kinds: Sequence[Kind], total: int, seed: int) -> List[Input]:
    """`total` inputs, spread over kinds by their shares; in an order in which every kind comes early."""
    weight = total / sum(kind.share for kind in kinds)
    counts: Dict[str, float] = {kind.name: max(1.0, kind.share * weight) for kind in kinds}
    every = [
        ((number + 0.5) / count, Input(name, number, seed))
        for name, count in counts.items()
        for number in range(round(count))
    ]
    return [one for _, one in sorted(every, key=lambda pair: pair[0])]


Progress = Callable[[Outcome], None]
