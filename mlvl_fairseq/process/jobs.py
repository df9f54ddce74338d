"""Work in a child process that starts warm: forked after the imports, so seven languages import torch once.

The parent computes nothing itself: threads of a math library that had run here would hang in a forked child.
"""

import contextlib
import json
import logging
import multiprocessing
import multiprocessing.popen_fork
import os
import re
import sys
import tempfile
import time
from functools import partial
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Callable, Iterator, Optional, Protocol, Sequence, Tuple

from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.process.exit_status import user_message
from mlvl_fairseq.process.signals import (
    Forwarder,
    Stopped,
    end_with_parent,
    held_back,
    let_through,
    on_stop_signal,
    signal_of_status,
    stop_at_once,
)
from mlvl_fairseq.process.threads import share_threads

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.2
SAVE_SECONDS = 5.0  # of costs, which a killed driver could not record
# What fairseq's trainer says before the first update
_BEGINS = re.compile(rb"Loaded checkpoint .* @ (\d+) updates\)|No existing checkpoint found")


class Costs(Protocol):
    """Where a caller wants recorded what a job costs."""

    def begin(self) -> None:
        """The job starts."""

    def save(self, seconds: float, peak_mib: float = 0.0) -> None:
        """It has been at work for so long, with so much memory. Called now and then, and at its end."""


class Job:
    """A function at work in a child process; what it prints goes to a log.

    Args:
        title: what messages call it.
        function: it ends normally or raises.
        log: file to append to.
    """

    def __init__(self, title: str, function: Callable[[], object], log: Path):
        self.title, self.log = title, log
        log.parent.mkdir(parents=True, exist_ok=True)
        self.start_of_log = log.stat().st_size if log.exists() else 0
        self._process = _MeasuredProcess(target=_child, args=(function, log))
        self._started = time.monotonic()
        with held_back():
            self._process.start()

    def wait(self, seconds: float = POLL_SECONDS) -> bool:
        """Wait for its end, `seconds` at most; is it still at work?"""
        self._process.join(seconds)
        return self._process.is_alive()

    @property
    def seconds(self) -> float:
        """Time since it was started."""
        return time.monotonic() - self._started

    @property
    def peak_mib(self) -> float:
        """Largest memory it has had, known once it has ended."""
        return self._process.peak_mib

    def end(self, ask: bool = True) -> None:
        """Wait until it has ended. `ask` it to stop, unless that has been done: asked twice, it would save nothing."""
        if ask:
            self._process.terminate()
        self._process.join()

    def failure(self) -> Optional[BaseException]:
        """How it ended: `Stopped` by a signal, UserError with the log's last line, or None: well."""
        status = self._process.exitcode
        number = signal_of_status(status)
        if number is not None:
            return Stopped(number)
        if status:
            return UserError(f"{self.title} stopped (exit status {status}): {self.last_line()}; log: {self.log}")
        return None

    def last_line(self) -> str:
        """What it said at last."""
        lines = self.log.read_bytes()[self.start_of_log :].decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "it printed nothing"


class _MeasuredPopen(multiprocessing.popen_fork.Popen):
    """Waits as multiprocessing does and keeps what the system tells about the child."""

    peak_mib = 0.0

    def poll(self, flag: int = os.WNOHANG) -> Optional[int]:
        if self.returncode is None:
            try:
                pid, status, usage = os.wait4(self.pid, flag)
            except ChildProcessError:  # somebody else has waited for it
                return None
            if pid == self.pid:
                self.peak_mib = usage.ru_maxrss / 1024  # Linux counts KiB
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


class _MeasuredProcess(ForkProcess):
    @staticmethod
    def _Popen(process):
        return _MeasuredPopen(process)

    @property
    def peak_mib(self) -> float:
        return self._popen.peak_mib


def run_job(
    title: str, function: Callable, log: Path, total: Optional[int] = None, costs: Optional[Costs] = None
) -> None:
    """Run `function()` as a `Job`, with a progress bar. SIGTERM and Ctrl-C are passed on to it.

    Args:
        title: of the progress bar.
        function, log: see `Job`; fairseq's JSON lines in the log (``num_updates``) drive the bar.
        total: number of updates.
        costs: where to record what it cost.

    Raises:
        UserError: it failed. Stopped: a signal came while it was at work; it has ended.
    """
    if costs is not None:
        costs.begin()
    forward = Forwarder()
    with on_stop_signal(forward):
        job = Job(title, function, log)
        try:
            _watch(job, total, costs)
        finally:
            job.end(ask=forward.number is None)
    failure = _failure(job, forward)
    try:
        if costs is not None:
            costs.save(job.seconds, job.peak_mib)
    except DataError:
        if failure is None:
            raise
    if failure is not None:
        raise failure


def run_check(name: str, function: Callable[[], object]) -> None:
    """Run a function in a child process for what it finds wrong; nothing of it stays, what it prints is not shown.

    Args:
        name: what it stands for, for messages.

    Raises:
        UserError: it failed, with its message. Stopped: a signal came while it was at work; it has ended.
    """
    forward = Forwarder()
    with tempfile.TemporaryDirectory() as folder, on_stop_signal(forward):
        job = Job(name, function, Path(folder) / "log")
        try:
            while job.wait():
                pass
        finally:
            job.end(ask=forward.number is None)
        failure = _failure(job, forward)
        if isinstance(failure, UserError):
            raise UserError(job.last_line())
        if failure is not None:
            raise failure


def run_jobs(work: Sequence[Tuple[str, Callable, Path]], at_once: int) -> Iterator[None]:
    """Run several jobs (title, function, log), `at_once` of them at a time, which share the cores; yields now and then.

    Raises:
        UserError: one of them failed; the others have been stopped. Stopped: a signal came; all have ended.
    """
    waiting, running, failure = list(work), [], None
    forward = Forwarder()
    with on_stop_signal(forward):
        try:
            while failure is None and (waiting or running):
                while waiting and len(running) < at_once:
                    title, function, log = waiting.pop(0)
                    running.append(Job(title, partial(_beside_others, function, at_once), log))
                for job in running:
                    job.wait(POLL_SECONDS)
                failure = next(filter(None, (_failure(job, forward) for job in running)), None)
                running = [job for job in running if job.wait(0)]
                yield
        finally:
            for job in running:
                job.end(ask=forward.number is None)
    if failure is not None:
        raise failure


def _beside_others(function: Callable[[], object], at_once: int) -> None:
    share_threads(at_once)
    function()


def _failure(job: Job, forward: Forwarder) -> Optional[BaseException]:
    """What is to be raised about a job, None: nothing. A signal outranks what a job that it has stopped says."""
    failure = job.failure() if forward.number is None else Stopped(forward.number)
    if isinstance(failure, Stopped):
        logger.info(f"{job.title}: stopped by {failure.signal_name}; the same command continues")
    return failure


def _watch(job: Job, total: Optional[int], costs: Optional[Costs]) -> None:
    """Show a job's progress and record its costs until it has ended."""
    saved = 0.0
    with contextlib.closing(_Progress(job.title, total)) as progress, open(job.log, "ab+") as file:
        file.seek(job.start_of_log)
        at_work = True
        while at_work:
            at_work = job.wait()
            if total is not None:
                _follow(file, progress)
            if costs is not None and job.seconds > saved + SAVE_SECONDS:
                saved = job.seconds
                costs.save(saved)


class _Progress:
    """A bar of updates, drawn once it is known which of them the training goes on from."""

    def __init__(self, title: str, total: Optional[int]):
        self.title, self.total, self.bar = title, total, None

    def begin(self, updates: int) -> None:
        """The training starts after so many updates, perhaps not for the first time."""
        from tqdm import tqdm  # here, so that commands can say how often bars are drawn, which tqdm reads when imported

        self.close()
        if updates:
            logger.info("%s goes on from update %d", self.title, updates)
        self.bar = tqdm(total=self.total, desc=self.title, unit=" updates", initial=updates)

    def show(self, updates: int, loss: Optional[str]) -> None:
        """It has done so many."""
        if self.bar is None:
            self.begin(0)
        if loss is not None:
            self.bar.set_postfix(loss=loss, refresh=False)  # a log gets as few lines as of other bars
        self.bar.update(updates - self.bar.n)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


def _child(function: Callable, log: Path) -> None:
    end_with_parent()
    sys.stdout = sys.stderr = file = open(log, "a", encoding="utf-8", buffering=1)
    for descriptor in (1, 2):
        os.dup2(file.fileno(), descriptor)
    with on_stop_signal(stop_at_once):
        let_through()
        try:
            function()
        except Exception as error:
            message = user_message(error)
            if message is None:
                raise
            sys.exit(message)  # the log's last line


def _follow(file, progress: _Progress) -> None:
    """Move the progress bar to where fairseq's lines in the log are."""
    for line in file:
        begins, start = _BEGINS.search(line), line.find(b'{"epoch"')
        if begins:
            progress.begin(int(begins[1] or 0))
        if start < 0:
            continue
        try:
            stats = json.loads(line[start:])
            updates = int(stats.get("num_updates", stats.get("train_num_updates")))
        except (ValueError, TypeError):
            continue
        progress.show(updates, stats.get("loss"))
