"""SIGTERM and Ctrl-C as requests: the first one stops a process where it is convenient, a second one at once.

One request often arrives more than once: a terminal, ``scancel`` and ``kill -- -GROUP`` signal every process of a
group, and parents forward what they get. Signals within a second are therefore one request.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from typing import Callable, Iterator, Optional

SIGNALS = (signal.SIGTERM, signal.SIGINT)
ONE_REQUEST = 1.0  # seconds


class Stopped(SystemExit):
    """Stopped by a signal. Uncaught, it ends the process with the status that shells give: 128 + the signal's number.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int):
        super().__init__(128 + number)
        self.number = number

    @property
    def signal_name(self) -> str:
        return signal.Signals(self.number).name


def signal_of_status(status: Optional[int]) -> Optional[int]:
    """The signal that has ended a process with this exit status (`Stopped`, or negative: killed), None if none of ours
    has."""
    return next((int(number) for number in SIGNALS if status in (128 + number, -number)), None)


@contextlib.contextmanager
def on_stop_signal(act: Callable[[int], None]) -> Iterator[None]:
    """In this block ``act(number)`` answers the first signal; it raises `Stopped`, or returns and sees to it later.

    Processes that are forked in the block leave signals to this one. Signals that are ignored (``nohup``) stay so;
    outside the main thread, where Python handles no signals, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = _handler(act)
    previous = {number: signal.getsignal(number) for number in SIGNALS}
    caught = [number for number in SIGNALS if previous[number] != signal.SIG_IGN]
    for number in caught:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number in caught:
            signal.signal(number, previous[number] or signal.SIG_DFL)


def _handler(act: Callable[[int], None]):
    owner, first = os.getpid(), None

    def handle(number, frame):
        nonlocal first
        if os.getpid() != owner:
            _leave_it_to_the_parent(number)
        elif first is None:
            first = time.monotonic()
            act(number)
            _say_that_it_goes_on(number)
        elif time.monotonic() > first + ONE_REQUEST:
            _end_by(number)

    return handle


def _leave_it_to_the_parent(number: int) -> None:
    """A data loader's worker must still deliver the batches of the running update; its parent ends it by a sentinel,
    or with SIGTERM, torch and multiprocessing once each."""
    if number == signal.SIGTERM:
        signal.signal(number, signal.SIG_DFL)


def _say_that_it_goes_on(number: int) -> None:
    if multiprocessing.parent_process() is None:
        name = signal.Signals(number).name
        # not print: the signal may have come while the same stream is written to
        os.write(2, f"\n{name}: stopping after the running update; a second one ends it at once\n".encode())


def _end_by(number: int) -> None:
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def stop_at_once(number: int) -> None:
    """For `on_stop_signal`, where nothing is lost. Raises Stopped."""
    raise Stopped(number)


class Forwarder:
    """For `on_stop_signal` in a process whose work is done by children that `multiprocessing` has started.

    Attributes:
        number: the signal that they were sent; the children are to be waited for. None: none so far.
    """

    def __init__(self):
        self.number: Optional[int] = None

    def __call__(self, number: int) -> None:
        """Raises Stopped: there are no children."""
        children = [child for child in multiprocessing.active_children() if not child.daemon]
        if not children:
            raise Stopped(number)
        self.number = number
        for child in children:
            os.kill(child.pid, number)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """In this block signals wait, so that a child that is forked in it gets them once it has called `let_through`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def let_through() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def end_with_parent() -> None:
    """Let this process, if multiprocessing started it, end as soon as its parent has ended, however that ended:
    otherwise it would still be at work when the command is run again."""
    if multiprocessing.parent_process() is not None:
        threading.Thread(target=_wait_and_end, daemon=True).start()


def _wait_and_end() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
