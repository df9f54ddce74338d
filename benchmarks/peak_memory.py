"""What a piece of work takes beside what is there already, at most: it runs in a process of its own (Linux)."""

import multiprocessing
from pathlib import Path
from typing import Any, Callable, NamedTuple


class Measured(NamedTuple):
    """Largest resident memory over that at the start, in MiB, and what the work returned."""

    extra_mib: float
    result: Any


def measure(work: Callable[[Callable[[], None]], Any]) -> Measured:
    """Run ``work(start)`` in a forked process; memory counts from when it calls ``start()``.

    Raises:
        MemoryError: the process ended before its work, as it does when the system has no more memory for it.
    """
    receive, send = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=_run, args=(work, send))
    child.start()
    send.close()  # so that the end of the child is the end of the pipe
    try:
        return receive.recv()
    except EOFError:
        raise MemoryError from None
    finally:
        child.join()


def _run(work: Callable[[Callable[[], None]], Any], pipe) -> None:
    before = 0.0

    def start() -> None:
        nonlocal before
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        before = _resident_mib("VmRSS")

    result = work(start)
    pipe.send(Measured(_resident_mib("VmHWM") - before, result))


def _resident_mib(entry: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(entry))
    return int(line.split()[1]) / 1024
